//! Values of statements, and columns of rows, in the order of the SQL text.

use relais_proto::{Digest, FileTime, Lsn, TreePath};
use rusqlite::Row;
use rusqlite::types::{FromSql, Null, ToSqlOutput};

/// Condition for rows at the path of [`Values::at`] or [`Values::tree`].
pub const AT: &str = "folder = ?1 AND name = ?2";
/// Condition for rows below the path of [`Values::tree`].
///
/// A row below the path has the folder `path`, or one that begins with `path/`; `0` follows `/`.
pub const BELOW: &str = "(folder = ?3 OR folder > ?3 || '/' AND folder < ?3 || '0')";
/// Condition for rows at or below the path of [`Values::tree`].
pub const AT_OR_BELOW: &str = "(folder = ?1 AND name = ?2
    OR folder = ?3 OR folder > ?3 || '/' AND folder < ?3 || '0')";

/// Splits a path into the columns `folder` and `name`. No row has the columns of the root.
pub fn split(path: &TreePath) -> (&str, &str) {
    path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()))
}

/// Values of a statement.
#[derive(Default)]
pub struct Values<'a>(pub Vec<ToSqlOutput<'a>>);

impl<'a> Values<'a> {
    /// Starts with one value.
    pub fn of(value: impl Into<ToSqlOutput<'a>>) -> Self {
        Self::default().add(value)
    }

    /// Starts with the folder and the name of a path.
    pub fn at(path: &'a TreePath) -> Self {
        let (folder, name) = split(path);
        Self::of(folder).add(name)
    }

    /// Starts with the folder and the name of a path, and the path itself.
    pub fn tree(path: &'a TreePath) -> Self {
        Self::at(path).add(path.as_str())
    }

    pub fn add(mut self, value: impl Into<ToSqlOutput<'a>>) -> Self {
        self.0.push(value.into());
        self
    }

    pub fn optional<T: Into<ToSqlOutput<'a>>>(self, value: Option<T>) -> Self {
        self.add(value.map_or(ToSqlOutput::from(Null), Into::into))
    }

    pub fn unsigned(self, value: u64) -> Self {
        self.add(value.cast_signed())
    }

    pub fn lsn(self, lsn: Lsn) -> Self {
        self.optional_lsn(Some(lsn))
    }

    pub fn optional_lsn(self, lsn: Option<Lsn>) -> Self {
        self.optional(lsn.map(|lsn| lsn.epoch)).optional(lsn.map(|lsn| lsn.number.cast_signed()))
    }

    pub fn time(self, time: FileTime) -> Self {
        self.add(time.seconds).add(time.nanos)
    }

    pub fn digest(self, digest: Option<Digest>) -> Self {
        self.optional(digest.map(|digest| digest.0.to_vec()))
    }
}

/// Reads the columns of a row one after the other.
pub struct Columns<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl<'a> Columns<'a> {
    pub fn new(row: &'a Row<'a>) -> Self {
        Self { row, next: 0 }
    }

    pub fn get<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    pub fn skip_to(&mut self, column: usize) {
        self.next = column;
    }

    pub fn unsigned(&mut self) -> rusqlite::Result<u64> {
        self.get().map(i64::cast_unsigned)
    }

    pub fn lsn(&mut self) -> rusqlite::Result<Lsn> {
        Ok(Lsn { epoch: self.get()?, number: self.unsigned()? })
    }

    pub fn optional_lsn(&mut self) -> rusqlite::Result<Option<Lsn>> {
        let (epoch, number): (Option<u32>, Option<i64>) = (self.get()?, self.get()?);
        Ok(epoch.zip(number).map(|(epoch, number)| Lsn { epoch, number: number.cast_unsigned() }))
    }

    pub fn time(&mut self) -> rusqlite::Result<FileTime> {
        Ok(FileTime { seconds: self.get()?, nanos: self.get()? })
    }

    pub fn digest(&mut self) -> rusqlite::Result<Option<Digest>> {
        Ok(self.get::<Option<[u8; 32]>>()?.map(Digest))
    }

    /// Reads folder and name. Returns `None` if they are no path.
    pub fn path(&mut self) -> rusqlite::Result<Option<TreePath>> {
        let (folder, name): (String, String) = (self.get()?, self.get()?);
        Ok(TreePath::new(if folder.is_empty() { name } else { format!("{folder}/{name}") }).ok())
    }
}
