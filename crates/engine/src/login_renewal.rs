//! The renewal of a session's login, for clients that cannot log in again by themselves.

use std::net::IpAddr;

use relais_proto::Refusal;

use crate::host::Host;
use crate::principal::Principal;

/// Renews logins.
pub trait LoginRenewer: Send + Sync {
    /// Renews a login with the present rights and root of its user. It may wait for the master.
    ///
    /// # Errors
    /// [`relais_proto::ErrorCode::BadTicket`] if the user was removed or has another password, or
    /// if the login cannot be renewed; [`relais_proto::ErrorCode::Busy`] or
    /// [`relais_proto::ErrorCode::TimedOut`] if the master does not answer: then it can be tried
    /// again.
    fn renew(
        &self,
        principal: &Principal,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<Principal, Refusal>;
}
