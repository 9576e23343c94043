//! Properties whose values the server computes (RFC 4918, section 15; RFC 4331).

use relais_proto::PropertyName;

use crate::property_name::DAV;

/// A property with a meaning for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveProperty {
    /// Name for people.
    DisplayName,
    /// Bytes of a file.
    ContentLength,
    /// Media type of a file.
    ContentType,
    /// The strong entity tag of a file.
    EntityTag,
    /// Time of the last change of the content.
    LastModified,
    /// File or folder.
    ResourceType,
    /// Which locks are possible.
    SupportedLock,
    /// Locks that hold.
    LockDiscovery,
    /// Bytes that can be added to a folder (RFC 4331, section 3).
    QuotaAvailable,
    /// Bytes that a folder has (RFC 4331, section 4).
    QuotaUsed,
}

impl LiveProperty {
    /// All of them, in the order of answers.
    pub const ALL: [Self; 10] = [
        Self::DisplayName,
        Self::ResourceType,
        Self::ContentLength,
        Self::ContentType,
        Self::EntityTag,
        Self::LastModified,
        Self::SupportedLock,
        Self::LockDiscovery,
        Self::QuotaAvailable,
        Self::QuotaUsed,
    ];

    /// Returns the local name in the namespace of WebDAV.
    #[must_use]
    pub fn local(self) -> &'static str {
        match self {
            Self::DisplayName => "displayname",
            Self::ContentLength => "getcontentlength",
            Self::ContentType => "getcontenttype",
            Self::EntityTag => "getetag",
            Self::LastModified => "getlastmodified",
            Self::ResourceType => "resourcetype",
            Self::SupportedLock => "supportedlock",
            Self::LockDiscovery => "lockdiscovery",
            Self::QuotaAvailable => "quota-available-bytes",
            Self::QuotaUsed => "quota-used-bytes",
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> PropertyName {
        PropertyName { namespace: DAV.to_owned(), local: self.local().to_owned() }
    }

    /// Returns the property with a name.
    #[must_use]
    pub fn from_name(name: &PropertyName) -> Option<Self> {
        let local = (name.namespace == DAV).then_some(name.local.as_str())?;
        Self::ALL.into_iter().find(|property| property.local() == local)
    }

    /// Whether a request for all properties gets it.
    ///
    /// Quotas are sent to clients that name them (RFC 4331, section 2).
    #[must_use]
    pub fn is_in_all(self) -> bool {
        !matches!(self, Self::QuotaAvailable | Self::QuotaUsed)
    }

    /// Whether clients cannot set it.
    #[must_use]
    pub fn is_protected(self) -> bool {
        !matches!(self, Self::DisplayName | Self::LastModified)
    }

    /// Returns the element with a text. The prefix `D` has to be bound.
    #[must_use]
    pub fn element(self, text: &str) -> String {
        let mut out = String::new();
        crate::xml::escape::text_element(self.local(), text, &mut out);
        out
    }
}
