//! The status for each error code of the engine. No other module chooses one.

use relais_http::Status;
use relais_proto::{ErrorCode, Refusal};

use super::limits::RETRY_AFTER;

/// Returns the status of the answer to a refused request (RFC 9110 section 15, RFC 4918 section
/// 11).
#[must_use]
pub fn status_of(code: ErrorCode) -> Status {
    match code {
        // The change was made; only its copies are fewer than this cluster wants.
        ErrorCode::TooFewCopies => Status::ACCEPTED,
        ErrorCode::BadName | ErrorCode::BadRequest | ErrorCode::Damaged | ErrorCode::Usage => {
            Status::BAD_REQUEST
        }
        ErrorCode::BadTicket
        | ErrorCode::LoginNeeded
        | ErrorCode::LoginRefused
        | ErrorCode::BadProof => Status::UNAUTHORIZED,
        ErrorCode::Denied | ErrorCode::NotServed | ErrorCode::TlsNeeded | ErrorCode::NotTrusted => {
            Status::FORBIDDEN
        }
        ErrorCode::NotFound => Status::NOT_FOUND,
        // RFC 9110 section 15.5.6: the target does not take the method.
        ErrorCode::IsFolder => Status::METHOD_NOT_ALLOWED,
        ErrorCode::Exists
        | ErrorCode::NotEmpty
        | ErrorCode::NotFolder
        | ErrorCode::Conflict
        | ErrorCode::BadOffset => Status::CONFLICT,
        ErrorCode::Changed => Status::PRECONDITION_FAILED,
        ErrorCode::Locked => Status::LOCKED,
        ErrorCode::NoSpace | ErrorCode::Limit => Status::INSUFFICIENT_STORAGE,
        ErrorCode::BadVersion | ErrorCode::Unsupported => Status::NOT_IMPLEMENTED,
        ErrorCode::Behind
        | ErrorCode::Busy
        | ErrorCode::Cut
        | ErrorCode::Draining
        | ErrorCode::NoChanges
        | ErrorCode::NoContent
        | ErrorCode::NoSlave
        | ErrorCode::TimedOut
        | ErrorCode::Unreachable => Status::SERVICE_UNAVAILABLE,
        ErrorCode::BadServer | ErrorCode::Interrupted | ErrorCode::Local | ErrorCode::Storage => {
            Status::INTERNAL_SERVER_ERROR
        }
    }
}

/// Returns after how many seconds the client may try again, if that is of use.
#[must_use]
pub fn retry_after(refusal: &Refusal) -> Option<u16> {
    let is_later = status_of(refusal.code) == Status::SERVICE_UNAVAILABLE;
    is_later.then_some(if refusal.retry_after > 0 { refusal.retry_after } else { RETRY_AFTER })
}

/// Returns the code in the body of an answer that no error code of the engine has caused.
#[must_use]
pub fn code_of(status: Status) -> &'static str {
    let code = match status {
        Status::UNAUTHORIZED => ErrorCode::LoginNeeded,
        Status::FORBIDDEN => ErrorCode::Denied,
        Status::NOT_FOUND => ErrorCode::NotFound,
        Status::PRECONDITION_FAILED => ErrorCode::Changed,
        Status::CONFLICT => ErrorCode::Conflict,
        Status::SERVICE_UNAVAILABLE => ErrorCode::Busy,
        Status::INSUFFICIENT_STORAGE => ErrorCode::NoSpace,
        Status::METHOD_NOT_ALLOWED | Status::NOT_IMPLEMENTED => ErrorCode::Unsupported,
        _ => ErrorCode::BadRequest,
    };
    code.text()
}

#[cfg(test)]
mod tests {
    use relais_proto::RetryClass;

    use super::*;

    #[test]
    fn each_error_code_has_a_status_of_its_class() {
        for code in ErrorCode::ALL {
            let status = status_of(*code).code();
            let fits = match code.retry() {
                RetryClass::Done => status / 100 == 2,
                RetryClass::Later => status == 503,
                RetryClass::Elsewhere => status / 100 == 5,
                RetryClass::Restart => matches!(status, 400 | 409 | 412) || status / 100 == 5,
                RetryClass::Login => status == 401,
                RetryClass::Never => status / 100 == 4 || status / 100 == 5,
            };
            assert!(fits, "{code}: {status}");
        }
    }

    #[test]
    fn only_a_later_try_is_recommended() {
        let refusal = |code| Refusal::new(code, "why");
        assert_eq!(retry_after(&refusal(ErrorCode::Behind)), Some(RETRY_AFTER));
        assert_eq!(retry_after(&refusal(ErrorCode::NotFound)), None);
        let busy = Refusal { retry_after: 7, ..refusal(ErrorCode::Busy) };
        assert_eq!(retry_after(&busy), Some(7));
    }
}
