//! Keeps SQLite from resolving links in the names of its files.
//!
//! The catalogue is opened as `/proc/self/fd/N/catalogue.db`, below a pinned descriptor. SQLite would replace
//! `/proc/self/fd/N` by the path that the descriptor has at that moment, and open its further files by that path
//! later, when it may name another folder.

use std::sync::OnceLock;

use rusqlite::ffi;

/// Lets SQLite take the names of its files as they are, in the whole process. It still opens no file that is a link.
///
/// # Errors
/// That this SQLite does not allow it.
pub fn keep_names() -> Result<(), &'static str> {
    static DONE: OnceLock<Result<(), &'static str>> = OnceLock::new();
    *DONE.get_or_init(|| {
        let stat: unsafe extern "C" fn(*const libc::c_char, *mut libc::stat) -> libc::c_int =
            libc::stat;
        // SAFETY: the default VFS lives as long as the process. `lstat` is called as a function of the type of `stat`,
        // which tells of no link, so that SQLite follows none. This runs before any file is opened in this process.
        let result = unsafe {
            let stat: unsafe extern "C" fn() = std::mem::transmute(stat);
            ffi::sqlite3_initialize();
            let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
            vfs.as_ref()
                .and_then(|found| found.xSetSystemCall)
                .map(|set| set(vfs, c"lstat".as_ptr(), Some(stat)))
        };
        if result == Some(ffi::SQLITE_OK) {
            Ok(())
        } else {
            Err("this SQLite resolves the names of its files by itself")
        }
    })
}
