//! The settings of FTP.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Which logins of FTP clients need an encrypted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FtpTls {
    /// None, because TLS is not offered.
    Off,
    /// None, but clients may encrypt.
    Offered,
    /// Those with a password from other hosts.
    #[default]
    RemotePasswords,
    /// All.
    Required,
}

impl FtpTls {
    /// Whether a login on a connection in the clear is refused.
    #[must_use]
    pub fn refuses_clear(self, client: IpAddr, is_anonymous: bool) -> bool {
        match self {
            Self::Off | Self::Offered => false,
            Self::RemotePasswords => !is_anonymous && !client.to_canonical().is_loopback(),
            Self::Required => true,
        }
    }
}

/// What the end of an encrypted upload without a closing alert means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsEof {
    /// The upload was cut.
    #[default]
    Strict,
    /// The upload is complete.
    Lenient,
}

/// How a slave serves FTP.
#[derive(Debug, Clone, Default)]
pub struct FtpConfig {
    /// Address in the replies to PASV; none: the one that the client has reached.
    pub public: Option<IpAddr>,
    /// Ports of passive data connections; none: any.
    pub passive: Option<RangeInclusive<u16>>,
    /// Which logins need an encrypted connection.
    pub tls: FtpTls,
    /// Whether an encrypted data connection has to resume the TLS session of its control
    /// connection.
    pub tls_reuse_required: bool,
    /// What the end of an encrypted upload without a closing alert means.
    pub tls_eof: TlsEof,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_other_hosts_need_tls_by_default() {
        let [near, mapped, far] =
            ["127.0.0.1", "::ffff:127.0.0.1", "192.0.2.9"].map(|addr| addr.parse().unwrap());
        let refuses = |tls: FtpTls, client, is_anonymous| tls.refuses_clear(client, is_anonymous);
        let default = FtpTls::default();
        assert!(refuses(default, far, false) && !refuses(default, far, true));
        assert!(!refuses(default, near, false) && !refuses(default, mapped, false));
        assert!(refuses(FtpTls::Required, near, true));
        assert!(!refuses(FtpTls::Offered, far, false) && !refuses(FtpTls::Off, far, false));
    }
}
