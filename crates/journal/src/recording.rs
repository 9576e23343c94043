//! Recordings of a running program, for the analysis of its decisions.
//!
//! They are made only if the environment variable `RELAIS_RECORD` names a folder. Each start of a
//! part creates a file there. A write error is logged once and ends that recording; the program
//! itself continues.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{error, info};

/// The variable that names the folder.
const FOLDER: &str = "RELAIS_RECORD";
/// Longest time that a note stays in memory while more notes are added.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Cap on the recordings that one process makes of a part.
const MAX_RECORDINGS: u32 = 1000;

/// A recording, or none if recording is off. `R` encodes the notes.
pub struct Recording<R>(Option<ActiveRecording<R>>);

struct ActiveRecording<R> {
    recorder: R,
    path: PathBuf,
    file: BufWriter<File>,
    flushed: Instant,
}

impl<R> Recording<R> {
    /// Starts a recording of `part` if recording is on. `begin` writes its first bytes.
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
            Ok(ActiveRecording { recorder, path, file, flushed: Instant::now() })
        });
        match started {
            Ok(running) => Self(Some(running)),
            Err(failed) => {
                error!("{part} is not recorded in {}: {failed}", folder.display());
                Self(None)
            }
        }
    }

    /// Adds a note, if recording is on.
    pub fn note(&mut self, note: impl FnOnce(&mut R, &mut dyn Write) -> io::Result<()>) {
        self.try_write(|running| {
            note(&mut running.recorder, &mut running.file)?;
            if running.flushed.elapsed() >= FLUSH_EVERY { running.flush() } else { Ok(()) }
        });
    }

    /// Flushes all notes to the file. Callers use it before they wait.
    pub fn flush(&mut self) {
        self.try_write(ActiveRecording::flush);
    }

    fn try_write(&mut self, what: impl FnOnce(&mut ActiveRecording<R>) -> io::Result<()>) {
        let Some(running) = &mut self.0 else { return };
        if let Err(failed) = what(running) {
            error!("the recording {} ends here: {failed}", running.path.display());
            if let Some(ended) = self.0.take() {
                // Unwritten bytes are dropped; a retry would fail again.
                drop(ended.file.into_parts());
            }
        }
    }
}

impl<R> ActiveRecording<R> {
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

/// Creates a file of an unused name for a part.
fn create(folder: &Path, part: &str) -> io::Result<(PathBuf, File)> {
    for n in 1..=MAX_RECORDINGS {
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
    fn each_start_creates_its_own_file() {
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
    fn notes_are_flushed_within_a_second() {
        let temp = tempfile::tempdir().unwrap();
        let mut recording = Recording::start_in(temp.path(), "part", |_| Ok(()));
        recording.note(line("early "));
        if let Some(running) = &mut recording.0 {
            running.flushed = Instant::now().checked_sub(FLUSH_EVERY).unwrap();
        }
        recording.note(line("late"));
        let path = recording.0.as_ref().unwrap().path.clone();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "early late");
    }

    #[test]
    fn a_write_error_ends_the_recording() {
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
        let mut recording = Recording(Some(ActiveRecording { recorder: (), path, file, flushed }));
        recording.note(line("something"));
        assert!(recording.0.is_some());
        recording.flush();
        assert!(recording.0.is_none());
        recording.note(|(), _| panic!("it has ended"));
    }
}
