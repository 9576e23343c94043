//! Sending and fetching content, pieces, resume, moving to another server
