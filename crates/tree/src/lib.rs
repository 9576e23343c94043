//! One pinned folder: the only code that opens, renames or removes a file in it
