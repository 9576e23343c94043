//! The database file: how it is opened, and its schema.

use std::path::{Path, PathBuf};
use std::time::Duration;

use relais_tree::{MetaKind, TreeError};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::{CatalogError, Result};
use crate::metadata_folder::{FOLDER, MetadataFolder};
use crate::sys::sqlite::keep_names;

/// Name of the file in the metadata folder.
const FILE: &str = "catalogue.db";
/// Must be raised with every change of the tables, or of what a trigger does.
const SCHEMA_VERSION: i64 = 10;
/// Bytes reserved for the write-ahead log: about its size when SQLite starts it anew.
const LOG: u32 = 4 * 1024 * 1024;
/// Free disk space required for the reservation, in bytes. A smaller disk is left to the files.
const ROOM: u64 = 2 * LOG as u64;
/// Time that a reader or the writer waits for the other.
const BUSY: Duration = Duration::from_secs(5);
/// Prepared statements that are kept. All of them fit, so none is parsed twice.
const STATEMENTS: usize = 256;

/// Schema of the database.
///
/// The key of `entry` is the path of the folder and the name, in byte order: a listing is a range,
/// and one look-up finds a path. Triggers keep the totals, so every change of a row counts.
///
/// Columns of `entry`: `kind` is 0 for a file and 1 for a folder. `found` is the monotonic time in
/// milliseconds when the row's file identity was first seen. `epoch` and `number` are the LSN of
/// the last change to the path, `content_*` that of the put that stored the content. `mode` and
/// `mtime_*` belong to the tree; `disk_*` is their state on the disk, which may not support them.
/// If `here` is 0 the content is missing and the row describes what must be fetched. `holders` then
/// has the ids of folders with the content, 16 bytes each. `damaged` is 1 if the content was here
/// and was found damaged.
///
/// `kept` has the retained content of a path until the new content arrives. `unapplied` has the
/// paths where the disk differs from the tree, with the reason. Its `due` is the monotonic time of
/// the next retry in milliseconds, or NULL if the path waits for the folder above. Its `lies` is 1
/// if a removed file is still on the disk. `change` has the committed changes by id. `peer` has the
/// slaves of the cluster; its `addrs` are their addresses, with spaces between them. `event` has
/// what the latest changes did at which path, see `events.rs`.
///
/// `property`, `lock` and `sha256` have the annotations of the tree, see `annotations.rs`. The root
/// has the empty folder and the empty name. `expires` is in milliseconds since 1970 UTC; `lock` and
/// `hashes` are encoded as on the wire.
const SCHEMA: &str = "
CREATE TABLE entry (
    folder TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, mode INTEGER NOT NULL,
        size INTEGER NOT NULL,
    mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_s INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
    disk_mode INTEGER NOT NULL, disk_mtime_s INTEGER NOT NULL, disk_mtime_ns INTEGER NOT NULL,
    dev INTEGER NOT NULL, ino INTEGER NOT NULL, found INTEGER NOT NULL, digest BLOB,
    epoch INTEGER, number INTEGER, content_epoch INTEGER, content_number INTEGER,
    here INTEGER NOT NULL DEFAULT 1, holders BLOB, damaged INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE INDEX unhashed ON entry (found, folder, name) WHERE kind = 0 AND digest IS NULL;
CREATE INDEX unnumbered ON entry (folder, name)
    WHERE epoch IS NULL AND (kind = 1 OR digest IS NOT NULL);
CREATE INDEX content ON entry (content_epoch, content_number) WHERE content_number IS NOT NULL;
CREATE INDEX missing ON entry (content_epoch, content_number) WHERE here = 0;
CREATE TABLE kept (
    folder TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
        digest BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        ctime_s INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    disk_mtime_s INTEGER NOT NULL, disk_mtime_ns INTEGER NOT NULL,
    dev INTEGER NOT NULL, ino INTEGER NOT NULL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE TABLE unapplied (
    folder TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
        removal INTEGER NOT NULL, why TEXT NOT NULL,
    since INTEGER NOT NULL, due INTEGER, pause INTEGER NOT NULL, source TEXT, lies INTEGER NOT NULL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE INDEX due ON unapplied (due) WHERE due IS NOT NULL;
CREATE INDEX source ON unapplied (source) WHERE source IS NOT NULL;
CREATE TABLE peer (slave BLOB PRIMARY KEY, folder BLOB NOT NULL, addrs TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE skipped (folder TEXT NOT NULL, name BLOB NOT NULL, why INTEGER NOT NULL,
    PRIMARY KEY (folder, name)) WITHOUT ROWID;
CREATE TABLE total (what TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (what TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE change (id BLOB PRIMARY KEY, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    digest BLOB) WITHOUT ROWID;
CREATE INDEX change_number ON change (epoch, number);
CREATE TABLE event (seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    kind INTEGER NOT NULL, path TEXT NOT NULL, source TEXT NOT NULL);
CREATE INDEX event_number ON event (epoch, number);
CREATE TABLE property (
    folder TEXT NOT NULL, name TEXT NOT NULL, namespace TEXT NOT NULL, local TEXT NOT NULL,
        value TEXT NOT NULL,
    PRIMARY KEY (folder, name, namespace, local)
) WITHOUT ROWID;
CREATE TABLE lock (
    folder TEXT NOT NULL, name TEXT NOT NULL, token BLOB NOT NULL, expires INTEGER NOT NULL,
        lock BLOB NOT NULL,
    PRIMARY KEY (folder, name, token)
) WITHOUT ROWID;
CREATE INDEX expiry ON lock (expires);
CREATE TABLE sha256 (epoch INTEGER NOT NULL, number INTEGER NOT NULL, hashes BLOB NOT NULL,
    PRIMARY KEY (epoch, number)) WITHOUT ROWID;
CREATE TRIGGER file_hashed AFTER UPDATE OF digest ON entry WHEN OLD.digest IS NULL
    AND NEW.digest IS NOT NULL BEGIN
    UPDATE total SET n = n - 1 WHERE what = 'relais_unhashed'; END;
CREATE TRIGGER content_came AFTER UPDATE OF here ON entry WHEN OLD.here = 0 AND NEW.here = 1 BEGIN
    UPDATE total SET n = n - 1 WHERE what = 'relais_missing';
    UPDATE total SET n = n - NEW.size WHERE what = 'relais_missing_bytes'; END;
CREATE TRIGGER damage_found AFTER UPDATE OF damaged ON entry WHEN OLD.damaged = 0
    AND NEW.damaged = 1 BEGIN UPDATE total SET n = n + 1 WHERE what = 'relais_damaged'; END;
";

/// Totals that triggers keep: the name, the table, the rows that count, and what each row adds.
const TOTALS: [(&str, &str, &str, &str); 13] = [
    ("relais_files", "entry", "row.kind = 0", "1"),
    ("relais_folders", "entry", "row.kind = 1", "1"),
    ("relais_bytes", "entry", "row.kind = 0", "row.size"),
    ("relais_unhashed", "entry", "row.kind = 0 AND row.digest IS NULL", "1"),
    ("relais_missing", "entry", "row.here = 0", "1"),
    ("relais_missing_bytes", "entry", "row.here = 0", "row.size"),
    ("relais_damaged", "entry", "row.damaged = 1", "1"),
    ("relais_unapplied", "unapplied", "true", "1"),
    ("relais_skipped_links", "skipped", "row.why = 0", "1"),
    ("relais_skipped_special", "skipped", "row.why = 1", "1"),
    ("relais_skipped_mounts", "skipped", "row.why = 2", "1"),
    ("relais_skipped_names", "skipped", "row.why = 3", "1"),
    ("relais_skipped_unreadable", "skipped", "row.why = 4", "1"),
];

/// Returns the statements for the totals and their triggers.
fn totals() -> String {
    let mut statements = String::new();
    for (what, table, counts, amount) in TOTALS {
        statements += &format!("INSERT INTO total VALUES ('{what}', 0);");
        for (event, row, sign) in [("INSERT", "NEW", '+'), ("DELETE", "OLD", '-')] {
            let (counts, amount) = (counts.replace("row", row), amount.replace("row", row));
            statements += &format!(
                "CREATE TRIGGER {what}_{event} AFTER {event} ON {table} WHEN {counts} BEGIN
                     UPDATE total SET n = n {sign} {amount} WHERE what = '{what}'; END;"
            );
        }
    }
    statements
}

/// Tables, also those of older schemas.
const TABLES: [&str; 12] = [
    "entry",
    "skipped",
    "total",
    "meta",
    "change",
    "kept",
    "unapplied",
    "peer",
    "event",
    "property",
    "lock",
    "sha256",
];

/// Returns the current path of the database, for messages.
pub(super) fn file(own: &MetadataFolder) -> PathBuf {
    let shown = relais_os::display_path(&own.path(FILE));
    if shown == own.path(FILE) { Path::new(FOLDER).join(FILE) } else { shown }
}

/// Opens the database relative to the descriptor of the metadata folder.
fn connect(own: &MetadataFolder, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let misuse = |why: &str| {
        rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISUSE),
            Some(why.to_owned()),
        )
    };
    keep_names().map_err(misuse)?;
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(own.path(FILE), flags)?;
    database.busy_timeout(BUSY)?;
    database.set_prepared_statement_cache_capacity(STATEMENTS);
    // Without it SQLite prepares a statement anew for each value that could choose another index.
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(database)
}

/// Adds the database file to an error.
pub(super) fn failed(file: &Path) -> impl Fn(rusqlite::Error) -> CatalogError {
    |source| CatalogError::Database { file: file.display().to_string(), source }
}

/// Opens the database for the writer, and creates it if it is missing.
///
/// The structure is checked first, because a damaged catalogue would return wrong entries forever.
/// The check reads the whole file: about a second for a million entries.
pub(super) fn open_writer(own: &MetadataFolder) -> Result<Connection> {
    let file = file(own);
    let failed = failed(&file);
    let damaged = |what: String| CatalogError::Damaged { file: file.display().to_string(), what };
    // SQLite refuses a link too, but its error does not say how to fix it.
    if own.folder().stat_part(FILE.as_bytes()).is_ok_and(|meta| meta.kind == MetaKind::Link) {
        return Err(damaged("it is a link".to_owned()));
    }
    let open = || -> rusqlite::Result<(Connection, String)> {
        let database =
            connect(own, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        database.pragma_update(None, "journal_mode", "WAL")?;
        // Recovery replays the journal from the end of the catalogue. Each commit is synced,
        // because a change must not be applied twice: newer files may have replaced its result.
        database.pragma_update(None, "synchronous", "FULL")?;
        let verdict = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok((database, verdict))
    };
    let database = match open() {
        Ok((database, verdict)) if verdict == "ok" => database,
        Ok((_, verdict)) => return Err(damaged(verdict)),
        Err(e) if is_damage(&e) => return Err(damaged(e.to_string())),
        Err(e) => return Err(failed(e)),
    };
    match version_of(&database).map_err(&failed)? {
        SCHEMA_VERSION => {}
        // An older schema is rebuilt from the folder and the journal.
        older if (0..SCHEMA_VERSION).contains(&older) => {
            let clear = TABLES.map(|table| format!("DROP TABLE IF EXISTS {table};")).concat();
            let build = format!(
                "BEGIN; {clear} {SCHEMA} {} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;",
                totals()
            );
            database.execute_batch(&build).map_err(failed)?;
        }
        other => return Err(damaged(format!("schema version {other}, not {SCHEMA_VERSION}"))),
    }
    Ok(database)
}

/// Reserves disk space for the write-ahead log. A committed change must not fail because it cannot
/// be recorded. The test data is rolled back at once.
pub(super) fn reserve_log(own: &MetadataFolder, database: &Connection) -> rusqlite::Result<()> {
    if rustix::fs::fstatvfs(own.folder())
        .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM)
    {
        return Ok(());
    }
    let kept: i64 = database.pragma_query_value(None, "cache_size", |row| row.get(0))?;
    // Pages that exceed the cache go to the log before the end of the transaction.
    database.pragma_update(None, "cache_size", 16)?;
    let filled = database
        .execute_batch("BEGIN IMMEDIATE; CREATE TABLE room (bytes BLOB);")
        .and_then(|()| database.execute("INSERT INTO room VALUES (zeroblob(?))", [LOG]).map(drop));
    if !database.is_autocommit() {
        database.execute_batch("ROLLBACK")?;
    }
    database.pragma_update(None, "cache_size", kept)?;
    filled
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// Most memory of a reader for pages; negative numbers are KiB (SQLite, `PRAGMA cache_size`).
const READER_CACHE: i64 = -256;

/// Opens the database for reading. Returns `None` if the writer has not created it yet.
pub(super) fn open_reader(own: &MetadataFolder) -> Result<Option<Connection>> {
    match own.folder().stat_part(FILE.as_bytes()) {
        Ok(_) => {}
        Err(TreeError::NotFound) => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    let open = || {
        let database = connect(own, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // Each session has a reader. The pages are in the cache of the kernel too.
        database.pragma_update(None, "cache_size", READER_CACHE)?;
        Ok((version_of(&database)? == SCHEMA_VERSION).then_some(database))
    };
    open().map_err(failed(&file(own)))
}

fn version_of(database: &Connection) -> rusqlite::Result<i64> {
    database.pragma_query_value(None, "user_version", |row| row.get(0))
}
