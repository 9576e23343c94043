//! Encrypted connections: everything works over them, whom the programs trust, and what strangers can do to them.

mod again;
mod lines;
mod trust;
