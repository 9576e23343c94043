//! Files that a running program records itself in, for whoever wants to know afterwards why it did something.
//!
//! Only where the environment variable `RELAIS_RECORD` names a folder: each start of a part makes a new file there. What cannot be
//! written is said once and ends that recording; the program itself goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{error, info};

/// The variable that names the folder.
const FOLDER: &str = "RELAIS_RECORD";
/// Longest time for which something that was noted stays in memory, while more is noted.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Most recordings that one process makes of a part.
const MOST: u32 = 1000;

/// A recording, or none. `R` is what knows how to write down what is recorded.
pub struct Recording<R>(Option<Running<R>>);

struct Running<R> {
    recorder: R,
    path: PathBuf,
    file: BufWriter<File>,
    flushed: Instant,
}

impl<R> Recording<R> {
    /// Begins a recording of a part called `part`, where recordings are wanted. `begin` writes its first bytes.
    pub fn start(part: &str, begin: impl FnOnce(&mut dyn Write) -> io::Result<R>) -> Self {
        match std::env::var_os(FOLDER) {
            Some(folder) if !folder.is_empty() => Self::start_in(Path::new(&folder), part, begin),
            _ => Self(None),
        }
    }

    fn start_in(
        folder: &Path,
        part: &str,
        begin: impl FnOnce(&mut dyn Write) -> io::Result<R>,
    ) -> Self {
        let started = create(folder, part).and_then(|(path, file)| {
            let mut file = BufWriter::new(file);
            let recorder = begin(&mut file)?;
            info!("recording into {}", path.display());
            Ok(Running { recorder, path, file, flushed: Instant::now() })
        });
        match started {
            Ok(running) => Self(Some(running)),
            Err(failed) => {
                error!("{part} is not recorded in {}: {failed}", folder.display());
                Self(None)
            }
        }
    }

    /// Notes something, where this is a recording.
    pub fn note(&mut self, note: impl FnOnce(&mut R, &mut dyn Write) -> io::Result<()>) {
        self.or_end(|running| {
            note(&mut running.recorder, &mut running.file)?;
            if running.flushed.elapsed() >= FLUSH_EVERY { running.flush() } else { Ok(()) }
        });
    }

    /// Has everything that was noted in the file: to be called when nothing more comes for a while.
    pub fn flush(&mut self) {
        self.or_end(Running::flush);
    }

    fn or_end(&mut self, what: impl FnOnce(&mut Running<R>) -> io::Result<()>) {
        let Some(running) = &mut self.0 else { return };
        if let Err(failed) = what(running) {
            error!("the recording {} ends here: {failed}", running.path.display());
            if let Some(ended) = self.0.take() {
                // What could not be written is not tried again.
                drop(ended.file.into_parts());
            }
        }
    }
}

impl<R> Running<R> {
    fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        self.file.flush()
    }
}

impl<R> Drop for Recording<R> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A new file for a part, of a name that nothing has.
fn create(folder: &Path, part: &str) -> io::Result<(PathBuf, File)> {
    for n in 1..=MOST {
        let path = folder.join(format!("{part}-{}-{n}.rec", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (path, file)),
        }
    }
    Err(io::Error::other("there are too many recordings of this process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: &'static str) -> impl FnOnce(&mut (), &mut dyn Write) -> io::Result<()> {
        move |(), to| to.write_all(line.as_bytes())
    }

    #[test]
    fn each_start_has_a_file_of_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let of = |n: u32| {
            std::fs::read_to_string(
                temp.path().join(format!("part-{}-{n}.rec", std::process::id())),
            )
            .unwrap()
        };
        let start = |first: &'static str| {
            Recording::start_in(temp.path(), "part", |to| to.write_all(first.as_bytes()))
        };
        let (mut one, mut two) = (start("1 "), start("2 "));
        one.note(line("note"));
        two.note(line("another"));
        two.flush();
        assert_eq!((of(1).as_str(), of(2).as_str()), ("", "2 another"));
        drop(one);
        assert_eq!(of(1), "1 note");
    }

    #[test]
    fn it_is_in_the_file_within_a_second() {
        let temp = tempfile::tempdir().unwrap();
        let mut tape = Recording::start_in(temp.path(), "part", |_| Ok(()));
        tape.note(line("early "));
        if let Some(running) = &mut tape.0 {
            running.flushed = Instant::now().checked_sub(FLUSH_EVERY).unwrap();
        }
        tape.note(line("late"));
        let path = tape.0.as_ref().unwrap().path.clone();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "early late");
    }

    #[test]
    fn what_cannot_be_written_ends_it() {
        let temp = tempfile::tempdir().unwrap();
        assert!(
            Recording::start_in(&temp.path().join("no folder"), "part", |_| Ok(())).0.is_none()
        );
        assert!(
            Recording::<()>::start_in(temp.path(), "part", |_| Err(io::Error::other("no")))
                .0
                .is_none()
        );
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (path, file, flushed) = ("/dev/full".into(), BufWriter::new(full), Instant::now());
        let mut tape = Recording(Some(Running { recorder: (), path, file, flushed }));
        tape.note(line("something"));
        assert!(tape.0.is_some());
        tape.flush();
        assert!(tape.0.is_none());
        tape.note(|(), _| panic!("it has ended"));
    }
}
