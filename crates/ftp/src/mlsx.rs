//! Lines of MLST and MLSD (RFC 3659, section 7).

use std::io::Write;

use blake3::Hasher;
use relais_proto::{Entry, Kind, TreePath};

use crate::facts::{Fact, FactSet};
use crate::time::format_time;

/// Writes the lines of one folder's entries.
#[derive(Debug)]
pub struct MlsxWriter {
    facts: FactSet,
    is_writable: bool,
    folder: TreePath,
    /// Has taken in the path of the folder.
    hasher: Hasher,
}

/// The role of an entry in a listing (RFC 3659, section 7.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Inside,
    Current,
    Parent,
}

impl MlsxWriter {
    /// Begins with a folder; `is_writable` says whether the user may change the tree.
    #[must_use]
    pub fn new(facts: FactSet, is_writable: bool, folder: &TreePath) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(folder.as_str().as_bytes());
        Self { facts, is_writable, folder: folder.clone(), hasher }
    }

    /// Appends the line of an entry of the folder.
    pub fn entry(&self, to: &mut Vec<u8>, entry: &Entry) {
        let unique = self.unique_of(entry.name.as_str());
        self.facts(to, entry, Position::Inside, unique);
        to.extend_from_slice(entry.name.as_bytes());
        to.extend_from_slice(b"\r\n");
    }

    /// Appends the line of the folder itself, as `.`.
    pub fn current(&self, to: &mut Vec<u8>, entry: &Entry) {
        self.facts(to, entry, Position::Current, unique(&self.folder));
        to.extend_from_slice(b".\r\n");
    }

    /// Appends the line of the parent, as `..`; nothing for the root.
    pub fn parent(&self, to: &mut Vec<u8>, entry: &Entry) {
        if let Some((parent, _)) = self.folder.split_last() {
            self.facts(to, entry, Position::Parent, unique(&parent));
            to.extend_from_slice(b"..\r\n");
        }
    }

    fn facts(&self, to: &mut Vec<u8>, entry: &Entry, position: Position, unique: u64) {
        for fact in self.facts.iter() {
            // Writing to a `Vec` cannot fail.
            let _ = match fact {
                Fact::Type => write!(to, "type={};", type_of(entry, position)),
                Fact::Size if entry.kind == Kind::Folder => Ok(()),
                Fact::Size => write!(to, "size={};", entry.size),
                Fact::Modify => write!(to, "modify={};", format_time(entry.mtime)),
                Fact::Perm => write!(to, "perm={};", self.permissions(entry, position)),
                Fact::Unique => write!(to, "unique={unique:016x};"),
                Fact::UnixMode => write!(to, "UNIX.mode={};", entry.mode),
            };
        }
        to.push(b' ');
    }

    /// Returns what the user may do (RFC 3659, section 7.5.5). The root stays where it is.
    fn permissions(&self, entry: &Entry, position: Position) -> &'static str {
        let is_root = match position {
            Position::Inside => entry.name.is_empty(),
            Position::Current => self.folder.is_root(),
            Position::Parent => self.folder.parts().count() == 1,
        };
        match (entry.kind, self.is_writable) {
            (Kind::File, true) => "adfrw",
            (Kind::File, false) => "r",
            (Kind::Folder, true) if is_root => "celmp",
            (Kind::Folder, true) => "cdeflmp",
            (Kind::Folder, false) => "el",
        }
    }

    /// Returns the number that names an entry of the folder: a hash of its path.
    fn unique_of(&self, name: &str) -> u64 {
        let mut hasher = self.hasher.clone();
        if !self.folder.is_root() && !name.is_empty() {
            hasher.update(b"/");
        }
        first_eight(hasher.update(name.as_bytes()))
    }
}

/// Returns the fact line of MLST for reply 250, which begins with a space.
///
/// `shown` is the path as it is to appear, for example absolute.
#[must_use]
pub fn mlst_line(facts: FactSet, is_writable: bool, path: &TreePath, entry: &Entry) -> String {
    let folder = path.split_last().map_or_else(TreePath::root, |(folder, _)| folder);
    let writer = MlsxWriter::new(facts, is_writable, &folder);
    let mut line = vec![b' '];
    writer.facts(&mut line, entry, Position::Inside, unique(path));
    let _ = write!(line, "{path}");
    String::from_utf8_lossy(&line).into_owned()
}

fn type_of(entry: &Entry, position: Position) -> &'static str {
    match (entry.kind, position) {
        (Kind::File, _) => "file",
        (Kind::Folder, Position::Inside) => "dir",
        (Kind::Folder, Position::Current) => "cdir",
        (Kind::Folder, Position::Parent) => "pdir",
    }
}

fn unique(path: &TreePath) -> u64 {
    first_eight(Hasher::new().update(path.as_str().as_bytes()))
}

fn first_eight(hasher: &Hasher) -> u64 {
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_time;
    use relais_proto::Mode;

    fn entry(name: &str, kind: Kind) -> Entry {
        let mode = Mode::new(if kind == Kind::File { 0o644 } else { 0o755 });
        let size = if kind == Kind::File { 25730 } else { 0 };
        let mtime = parse_time("19990929003355").unwrap();
        Entry { name: name.to_owned(), kind, mode, size, mtime, version: None }
    }

    fn folder(path: &str, facts: &str, is_writable: bool) -> MlsxWriter {
        MlsxWriter::new(FactSet::parse(facts), is_writable, &TreePath::new(path).unwrap())
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut to = Vec::new();
        write(&mut to);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn lines_have_the_chosen_facts() {
        let writer = folder("a", "unix.mode;perm;modify;size;type;", true);
        assert_eq!(
            written(|to| writer.entry(to, &entry("cap.c  x", Kind::File))),
            "type=file;size=25730;modify=19990929003355;perm=adfrw;UNIX.mode=0644; cap.c  x\r\n"
        );
        assert_eq!(
            written(|to| writer.entry(to, &entry("d", Kind::Folder))),
            "type=dir;modify=19990929003355;perm=cdeflmp;UNIX.mode=0755; d\r\n"
        );
        let none = folder("a", "", true);
        assert_eq!(written(|to| none.entry(to, &entry("x", Kind::File))), " x\r\n");
    }

    #[test]
    fn permissions_follow_rights_and_position() {
        let facts = "type;perm;";
        let top = entry("", Kind::Folder);
        let (root, inner) = (folder("", facts, true), folder("a", facts, true));
        let read_only = folder("a", facts, false);
        for (line, expected) in [
            (written(|to| root.current(to, &top)), "type=cdir;perm=celmp; .\r\n"),
            (written(|to| root.parent(to, &top)), ""),
            (
                written(|to| inner.current(to, &entry("a", Kind::Folder))),
                "type=cdir;perm=cdeflmp; .\r\n",
            ),
            (written(|to| inner.parent(to, &top)), "type=pdir;perm=celmp; ..\r\n"),
            (written(|to| read_only.entry(to, &entry("f", Kind::File))), "type=file;perm=r; f\r\n"),
            (
                written(|to| read_only.current(to, &entry("a", Kind::Folder))),
                "type=cdir;perm=el; .\r\n",
            ),
        ] {
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn unique_names_the_path_wherever_it_is_shown() {
        let unique_of = |line: &str| line.split(';').next().unwrap().trim().to_owned();
        let inner = folder("a/b", "unique;", true);
        let inside = written(|to| inner.entry(to, &entry("c", Kind::File)));
        let path = TreePath::new("a/b/c").unwrap();
        let shown = mlst_line(FactSet::parse("unique;"), true, &path, &entry("c", Kind::File));
        assert_eq!(unique_of(&inside), unique_of(&shown));
        let current = written(|to| inner.current(to, &entry("b", Kind::Folder)));
        let listed =
            written(|to| folder("a", "unique;", true).entry(to, &entry("b", Kind::Folder)));
        let parent =
            written(|to| folder("a/b/c", "unique;", true).parent(to, &entry("b", Kind::Folder)));
        assert_eq!(unique_of(&current), unique_of(&listed));
        assert_eq!(unique_of(&current), unique_of(&parent));
        assert_ne!(unique_of(&inside), unique_of(&current));
        let root = folder("", "unique;", true);
        let top = written(|to| root.entry(to, &entry("a", Kind::Folder)));
        let parent = written(|to| inner.parent(to, &entry("a", Kind::Folder)));
        assert_eq!(unique_of(&top), unique_of(&parent));
    }

    #[test]
    fn mlst_shows_the_absolute_path() {
        let facts = FactSet::parse("type;perm;");
        let line = |path: &str, entry: &Entry| {
            mlst_line(facts, true, &TreePath::new(path).unwrap(), entry)
        };
        assert_eq!(line("a/b c", &entry("b c", Kind::File)), " type=file;perm=adfrw; /a/b c");
        assert_eq!(line("", &entry("", Kind::Folder)), " type=dir;perm=celmp; /");
    }
}
