//! Requests on their way between the pool of logins and the sessions.

use std::sync::Arc;

use relais_engine::{Principal, Protocol};
use relais_http::RequestHead;
use relais_net::Stream;
use relais_proto::TreePath;

use super::client::HttpClient;
use super::credentials::Credentials;

/// A request that has passed the checks which need no user.
#[derive(Debug, Clone)]
pub struct CheckedRequest {
    /// The head.
    pub head: RequestHead,
    /// Where it comes from.
    pub client: HttpClient,
    /// What the client proves its identity with.
    pub credentials: Credentials,
    /// Whether the handler has to check the CSRF token in the form that the body is.
    pub needs_form_token: bool,
}

impl CheckedRequest {
    /// Whether another request belongs to the same login.
    #[must_use]
    pub fn has_login_of(&self, other: &LoginOrigin) -> bool {
        self.client == other.client && self.credentials == other.credentials
    }

    /// Returns what later requests of the same login have in common with this one.
    #[must_use]
    pub fn origin(&self) -> LoginOrigin {
        LoginOrigin { client: self.client, credentials: self.credentials.clone() }
    }
}

/// The methods of files and folders, for `Allow`.
pub const METHODS: &str = "GET, HEAD, PUT, DELETE, OPTIONS, PROPFIND, PROPPATCH, MKCOL, COPY, \
     MOVE, LOCK, UNLOCK";

/// The methods of a folder.
pub const FOLDER_METHODS: &str = "GET, HEAD, DELETE, OPTIONS, PROPFIND, PROPPATCH, COPY, MOVE, \
     LOCK, UNLOCK";

/// A request for a file or folder.
pub struct TreeRequest<'a> {
    /// The request.
    pub request: &'a CheckedRequest,
    /// The path in the tree.
    pub path: TreePath,
    /// Whether the URL ends with `/`.
    pub has_slash: bool,
}

/// What the requests of one login have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginOrigin {
    /// Where they come from.
    pub client: HttpClient,
    /// What the client proves its identity with.
    pub credentials: Credentials,
}

/// A request whose user has logged in.
pub struct AdmittedRequest {
    /// That of its listener: `Http` or `Https`.
    pub protocol: Protocol,
    /// The request.
    pub request: CheckedRequest,
    /// What was read after the head.
    pub input: Vec<u8>,
}

/// A connection whose session begins with a request.
pub struct HttpStart {
    /// The connection.
    pub stream: Arc<Stream>,
    /// The user.
    pub principal: Principal,
    /// The request.
    pub request: AdmittedRequest,
}

/// What was read of the next request of a kept connection.
#[derive(Default)]
pub struct FollowingRequest {
    /// Its head, if it is complete.
    pub head: Option<RequestHead>,
    /// What follows.
    pub input: Vec<u8>,
}

/// A kept connection that its session has given back.
pub struct KeptConnection {
    /// The connection.
    pub stream: Arc<Stream>,
    /// What was read of the next request.
    pub next: FollowingRequest,
}
