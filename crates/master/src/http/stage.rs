//! What an HTTP connection is busy with.

use std::sync::Arc;
use std::time::Instant;

use relais_auth::{AuthenticatedUser, PendingLogin};
use relais_http::Form;
use relais_net::LoginStep;
use relais_proto::TreePath;

use super::operate::OperationKind;
use super::request::Request;
use super::route::{FormKind, Page};
use super::status::StatusStream;
use crate::login::LinkPeer;

/// What a request is for, while its password is verified.
pub(super) enum LoginPurpose {
    /// A file or folder.
    Tree(TreePath),
    /// A page of the master.
    Page(Page),
    /// A login form; the path follows the login.
    Login(String),
    /// A form that operates slaves.
    Operation(OperationKind, Form),
}

/// The request that a connection is busy with.
pub(super) enum Stage {
    Idle,
    /// The body of a form is awaited.
    Form {
        request: Box<Request>,
        kind: FormKind,
        /// The length of the body in bytes.
        length: usize,
    },
    /// The password is being verified.
    Password {
        request: Box<Request>,
        purpose: LoginPurpose,
        pending: PendingLogin,
        _login: Arc<()>,
    },
    /// The viewer of the status page gets what changes.
    Stream(Box<StatusStream>),
    /// No slave can serve the request yet.
    Waiting {
        request: Box<Request>,
        path: TreePath,
        user: AuthenticatedUser,
        since: Instant,
        _wait: Arc<()>,
    },
}

pub(super) type HttpStep = LoginStep<LinkPeer>;
