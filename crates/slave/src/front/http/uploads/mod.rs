//! Resumable uploads: draft-ietf-httpbis-resumable-upload-12, interop version 8.
//!
//! An upload resource has no state but the staged file of the engine: its URL has the rest, sealed
//! with the key of the server. So it survives a restart and works in each worker. Another slave of
//! the cluster does not have the staged file, and starts the upload at offset 0.
//!
//! Parts are hashed once, with the last one.

mod create;
mod fields;
mod resource;
mod token;

pub use create::{create_part, create_whole};
pub use fields::{INTEROP_VERSION, PART_TYPE, UploadFields, upload_limit};
pub use resource::resource;
