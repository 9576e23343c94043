//! The protocol between a client and the front end that serves it.

/// The protocol that a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The protocol of Relais.
    Native,
    /// FTP, also if it is encrypted by AUTH TLS.
    Ftp,
    /// FTP over implicit TLS.
    Ftps,
    /// HTTP in the clear.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Protocol {
    /// Returns the name in options, logs and ready lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Ftp => "ftp",
            Self::Ftps => "ftps",
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
