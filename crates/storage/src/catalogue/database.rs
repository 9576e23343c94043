//! The database file: how it is opened, and its schema.

use std::path::{Path, PathBuf};
use std::time::Duration;

use relais_tree::{MetaKind, TreeError};
use rusqlite::{Connection, OpenFlags};

use crate::error::CatalogError;
use crate::metadata_folder::{FOLDER, MetadataFolder};
use crate::sys::sqlite::keep_names;

/// Name of the file in the metadata folder.
const FILE: &str = "catalogue.db";
/// Must be raised with every change of the schema.
const SCHEMA_VERSION: i64 = 6;
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
/// slaves of the cluster. `event` has what the latest changes did at which path, see `events.rs`.
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
CREATE INDEX unnumbered ON entry (folder, name) WHERE epoch IS NULL;
CREATE INDEX content ON entry (content_epoch, content_number) WHERE content_number IS NOT NULL;
CREATE INDEX lacking ON entry (content_epoch, content_number) WHERE here = 0;
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
CREATE TRIGGER unapplied_in AFTER INSERT ON unapplied BEGIN UPDATE total SET n = n + 1
    WHERE what = 'relais_unapplied'; END;
CREATE TRIGGER unapplied_out AFTER DELETE ON unapplied BEGIN UPDATE total SET n = n - 1
    WHERE what = 'relais_unapplied'; END;
CREATE TABLE peer (slave BLOB PRIMARY KEY, folder BLOB NOT NULL) WITHOUT ROWID;
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
INSERT INTO total VALUES ('relais_files', 0), ('relais_folders', 0), ('relais_bytes', 0),
    ('relais_unhashed', 0), ('relais_lacking', 0), ('relais_lacking_bytes', 0),
    ('relais_damaged', 0), ('relais_unapplied', 0), ('relais_skipped_links', 0),
    ('relais_skipped_special', 0), ('relais_skipped_mounts', 0), ('relais_skipped_names', 0),
    ('relais_skipped_unreadable', 0);
CREATE TRIGGER file_in AFTER INSERT ON entry WHEN NEW.kind = 0 BEGIN
    UPDATE total SET n = n + CASE what WHEN 'relais_files' THEN 1 WHEN 'relais_bytes' THEN NEW.size
        ELSE NEW.digest IS NULL END
        WHERE what IN ('relais_files', 'relais_bytes', 'relais_unhashed');
END;
CREATE TRIGGER file_out AFTER DELETE ON entry WHEN OLD.kind = 0 BEGIN
    UPDATE total SET n = n - CASE what WHEN 'relais_files' THEN 1 WHEN 'relais_bytes' THEN OLD.size
        ELSE OLD.digest IS NULL END
        WHERE what IN ('relais_files', 'relais_bytes', 'relais_unhashed');
END;
CREATE TRIGGER file_hashed AFTER UPDATE OF digest ON entry WHEN OLD.digest IS NULL
    AND NEW.digest IS NOT NULL BEGIN
    UPDATE total SET n = n - 1 WHERE what = 'relais_unhashed';
END;
CREATE TRIGGER lacking_in AFTER INSERT ON entry WHEN NEW.here = 0 BEGIN
    UPDATE total SET n = n + CASE what WHEN 'relais_lacking' THEN 1 ELSE NEW.size END
        WHERE what IN ('relais_lacking', 'relais_lacking_bytes');
END;
CREATE TRIGGER lacking_out AFTER DELETE ON entry WHEN OLD.here = 0 BEGIN
    UPDATE total SET n = n - CASE what WHEN 'relais_lacking' THEN 1 ELSE OLD.size END
        WHERE what IN ('relais_lacking', 'relais_lacking_bytes');
END;
CREATE TRIGGER damaged_in AFTER UPDATE OF damaged ON entry WHEN OLD.damaged = 0
    AND NEW.damaged = 1 BEGIN UPDATE total SET n = n + 1 WHERE what = 'relais_damaged'; END;
CREATE TRIGGER damaged_out AFTER DELETE ON entry WHEN OLD.damaged = 1
    BEGIN UPDATE total SET n = n - 1 WHERE what = 'relais_damaged'; END;
CREATE TRIGGER folder_in AFTER INSERT ON entry WHEN NEW.kind = 1
    BEGIN UPDATE total SET n = n + 1 WHERE what = 'relais_folders'; END;
CREATE TRIGGER folder_out AFTER DELETE ON entry WHEN OLD.kind = 1
    BEGIN UPDATE total SET n = n - 1 WHERE what = 'relais_folders'; END;
CREATE TRIGGER skip_in AFTER INSERT ON skipped BEGIN UPDATE total SET n = n + 1
    WHERE what = 'relais_skipped_' || CASE NEW.why WHEN 0 THEN 'links'
    WHEN 1 THEN 'special' WHEN 2 THEN 'mounts' WHEN 3 THEN 'names' ELSE 'unreadable' END; END;
CREATE TRIGGER skip_out AFTER DELETE ON skipped BEGIN UPDATE total SET n = n - 1
    WHERE what = 'relais_skipped_' || CASE OLD.why WHEN 0 THEN 'links'
    WHEN 1 THEN 'special' WHEN 2 THEN 'mounts' WHEN 3 THEN 'names' ELSE 'unreadable' END; END;
";

/// Drops the tables of an older schema.
const CLEAR: &str = "DROP TABLE IF EXISTS entry; DROP TABLE IF EXISTS skipped;
    DROP TABLE IF EXISTS total; DROP TABLE IF EXISTS meta; DROP TABLE IF EXISTS change;
    DROP TABLE IF EXISTS kept; DROP TABLE IF EXISTS unapplied; DROP TABLE IF EXISTS peer;
    DROP TABLE IF EXISTS event;";

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
    Connection::open_with_flags(own.path(FILE), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Adds the database file to an error.
pub(super) fn failed(file: &Path) -> impl Fn(rusqlite::Error) -> CatalogError {
    let file = file.display().to_string();
    move |source| CatalogError::Database { file: file.clone(), source }
}

/// Opens the database for the writer, and creates it if it is missing.
///
/// The structure is checked first, because a damaged catalogue would return wrong entries forever.
/// The check reads the whole file: about a second for a million entries.
pub(super) fn open_writer(own: &MetadataFolder) -> Result<Connection, CatalogError> {
    let file = file(own);
    let open = || -> Result<Connection, rusqlite::Error> {
        let database =
            connect(own, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        database.busy_timeout(BUSY)?;
        database.set_prepared_statement_cache_capacity(STATEMENTS);
        database.pragma_update(None, "journal_mode", "WAL")?;
        // Recovery replays the journal from the end of the catalogue. Each commit is synced,
        // because a change must not be applied twice: newer files may have replaced its result.
        database.pragma_update(None, "synchronous", "FULL")?;
        Ok(database)
    };
    // SQLite refuses a link too, but its error does not say how to fix it.
    if own.folder().stat_part(FILE.as_bytes()).is_ok_and(|meta| meta.kind == MetaKind::Link) {
        let (file, what) = (file.display().to_string(), "it is a link".to_owned());
        return Err(CatalogError::Damaged { file, what });
    }
    let check = |database: &Connection| {
        database.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    };
    let opened = open().and_then(|database| check(&database).map(|verdict| (database, verdict)));
    let damaged = |what: String| CatalogError::Damaged { file: file.display().to_string(), what };
    let database = match opened {
        Ok((database, verdict)) if verdict == "ok" => database,
        Ok((_, verdict)) => return Err(damaged(verdict)),
        Err(e) if is_damage(&e) => return Err(damaged(e.to_string())),
        Err(e) => return Err(failed(&file)(e)),
    };
    match database
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map_err(failed(&file))?
    {
        SCHEMA_VERSION => {}
        // An older schema is rebuilt from the folder and the journal.
        older if (0..SCHEMA_VERSION).contains(&older) => {
            let build =
                format!("BEGIN; {CLEAR} {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
            database.execute_batch(&build).map_err(failed(&file))?;
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

/// Opens the database for reading. Returns `None` if the writer has not created it yet.
pub(super) fn open_reader(own: &MetadataFolder) -> Result<Option<Connection>, CatalogError> {
    match own.folder().stat_part(FILE.as_bytes()) {
        Ok(_) => {}
        Err(TreeError::NotFound) => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    let file = file(own);
    let database = connect(own, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed(&file))?;
    database.busy_timeout(BUSY).map_err(failed(&file))?;
    database.set_prepared_statement_cache_capacity(STATEMENTS);
    let version = database
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map_err(failed(&file))?;
    Ok((version == SCHEMA_VERSION).then_some(database))
}
