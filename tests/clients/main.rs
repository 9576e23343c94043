//! Tests of the FTP and HTTP front ends with clients that others wrote.
//!
//! `make test-clients` runs them; they need the Debian packages that it names. Each client reads,
//! writes, lists and resumes against the real programs, in the clear and by TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../it/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other tests use the rest of the harness")]
mod harness;

mod active_and_ipv6;
mod aioftp;
mod archives;
mod browser;
mod curl;
mod documents;
mod ftplib;
mod haproxy;
mod http;
mod http_documents;
mod http_proxy;
mod killed_clients;
mod killed_slaves;
mod lftp;
mod other_clients;
mod prometheus;
mod redirector;
mod site;
mod suppaftp;
mod webdav;
