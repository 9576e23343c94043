//! Keeps SQLite from resolving links in the names of its files.
//!
//! The catalogue is opened as `/proc/self/fd/N/catalogue.db`, below a pinned descriptor. SQLite
//! would replace `/proc/self/fd/N` by the path that the descriptor has at that moment. It would
//! open its further files by that path later, when the path may lead to another folder.

use std::sync::OnceLock;

use rusqlite::ffi;

/// Has SQLite use the names of its files unchanged, in the whole process.
///
/// SQLite still opens no file that is a link.
///
/// # Errors
/// This SQLite does not support it.
pub fn keep_names() -> Result<(), &'static str> {
    static DONE: OnceLock<Result<(), &'static str>> = OnceLock::new();
    *DONE.get_or_init(|| {
        let stat: unsafe extern "C" fn(*const libc::c_char, *mut libc::stat) -> libc::c_int =
            libc::stat;
        // SAFETY: the default VFS lives as long as the process. `stat` replaces `lstat`, which has
        // the same type; it reports no link, so SQLite resolves none. This code runs before SQLite
        // opens any file in this process.
        let result = unsafe {
            let stat: unsafe extern "C" fn() = std::mem::transmute(stat);
            // Without its counters of memory, threads do not wait for each other to allocate.
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0);
            ffi::sqlite3_initialize();
            let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
            vfs.as_ref()
                .and_then(|found| found.xSetSystemCall)
                .map(|set| set(vfs, c"lstat".as_ptr(), Some(stat)))
        };
        if result == Some(ffi::SQLITE_OK) {
            Ok(())
        } else {
            Err("this SQLite library cannot be kept from resolving the names of its files")
        }
    })
}
