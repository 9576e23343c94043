//! The reply code for each error code of the engine. No other module chooses one.

use relais_ftp::Reply;
use relais_proto::{ErrorCode, Refusal};

/// Returns the reply for a refused command.
///
/// A code of the 4yz group tells the client that the same command may succeed later, one of the
/// 5yz group that it will not (RFC 959 section 4.2).
#[must_use]
pub fn reply_to(refusal: &Refusal) -> Reply {
    Reply::new(code_of(refusal.code), refusal.message.clone())
}

/// Returns whether the session ends after a refusal with this code.
#[must_use]
pub fn ends_session(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::BadTicket | ErrorCode::Draining)
}

/// Returns the reply code for an error code (RFC 959 section 4.2, RFC 1123 section 4.1.2.11).
fn code_of(code: ErrorCode) -> u16 {
    match code {
        // The change was made; only its copies are fewer than this cluster wants.
        ErrorCode::TooFewCopies => 250,
        // The service ends, and the client may continue at another slave.
        ErrorCode::Draining => 421,
        ErrorCode::Cut | ErrorCode::Interrupted => 426,
        ErrorCode::Behind
        | ErrorCode::Busy
        | ErrorCode::Conflict
        | ErrorCode::Locked
        | ErrorCode::NoChanges
        | ErrorCode::NoContent
        | ErrorCode::NoSlave
        | ErrorCode::TimedOut
        | ErrorCode::Unreachable => 450,
        ErrorCode::BadServer
        | ErrorCode::Changed
        | ErrorCode::Damaged
        | ErrorCode::Local
        | ErrorCode::NotTrusted
        | ErrorCode::Storage => 451,
        ErrorCode::BadRequest | ErrorCode::Usage => 501,
        ErrorCode::BadVersion | ErrorCode::Unsupported => 502,
        ErrorCode::BadProof
        | ErrorCode::BadTicket
        | ErrorCode::LoginNeeded
        | ErrorCode::LoginRefused => 530,
        // RFC 2228 section 3: denied by policy.
        ErrorCode::TlsNeeded => 534,
        ErrorCode::Denied
        | ErrorCode::Exists
        | ErrorCode::IsFolder
        | ErrorCode::NotEmpty
        | ErrorCode::NotFolder
        | ErrorCode::NotFound
        | ErrorCode::NotServed => 550,
        ErrorCode::Limit | ErrorCode::NoSpace => 552,
        ErrorCode::BadName => 553,
        // RFC 3659 section 5.3: the restart point is of no use.
        ErrorCode::BadOffset => 554,
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::RetryClass;

    use super::*;

    #[test]
    fn each_error_code_has_a_reply_of_its_class() {
        for code in ErrorCode::ALL {
            let group = code_of(*code) / 100;
            let fits = match code.retry() {
                RetryClass::Done => group == 2,
                RetryClass::Later | RetryClass::Elsewhere => group == 4 || group == 5,
                RetryClass::Restart => group == 4 || *code == ErrorCode::BadOffset,
                RetryClass::Login => group == 5,
                RetryClass::Never => group == 5 || code_of(*code) == 426 || group == 4,
            };
            assert!(fits, "{code}: {}", code_of(*code));
        }
    }

    #[test]
    fn clients_depend_on_these_codes() {
        for (code, reply) in [
            (ErrorCode::NotFound, 550),
            (ErrorCode::Denied, 550),
            (ErrorCode::NoSpace, 552),
            (ErrorCode::BadName, 553),
            (ErrorCode::Behind, 450),
            (ErrorCode::Draining, 421),
            (ErrorCode::BadTicket, 530),
            (ErrorCode::Cut, 426),
        ] {
            let refusal = Refusal::new(code, "why");
            assert_eq!(reply_to(&refusal).code(), reply, "{code}");
            assert_eq!(ends_session(code), matches!(reply, 421 | 530), "{code}");
        }
    }
}
