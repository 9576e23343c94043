//! HTTP on the master: redirects to slaves, Metalinks, health and metrics.
//!
//! It owns the answers to HTTP requests. All of them are made in the thread that runs logins,
//! without blocking: a request waits in the pool for a password check or for hashes. It never
//! serves content.

mod access;
mod answer;
mod authentication;
mod connection;
mod connection_handler;
mod cookie_login;
mod form_request;
mod hash_requests;
mod health;
mod limits;
mod login_cache;
mod login_page;
mod metalink;
mod metrics;
mod operate;
mod page;
mod password_stage;
mod redirect;
mod request;
mod route;
mod site;
mod stage;
mod status;
mod url_path;

pub(crate) use self::connection::HttpConnection;
pub(crate) use self::site::HttpSite;
