//! Locks as elements of answers (RFC 4918, sections 14 and 15).

use crate::xml::escape::text_element;

/// Who else may have a lock on the same resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockScope {
    /// No other lock.
    Exclusive,
    /// Other shared locks.
    Shared,
}

impl LockScope {
    fn name(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        }
    }
}

/// What a lock covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockDepth {
    /// The resource alone; of a folder also the set of its members.
    Zero,
    /// The resource and what is below it.
    Infinity,
}

/// A lock as `lockdiscovery` shows it (RFC 4918, section 14.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveLock {
    /// Who else may have a lock.
    pub scope: LockScope,
    /// What the lock covers.
    pub depth: LockDepth,
    /// The element `owner` as self-contained XML; empty: none.
    pub owner: String,
    /// Seconds until the lock ends.
    pub seconds: u64,
    /// The token, an URI; none: the reader may not see it.
    pub token: Option<String>,
    /// The encoded path of the locked resource.
    pub root: String,
}

impl ActiveLock {
    fn write(&self, out: &mut String) {
        out.push_str("<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope><D:");
        out.push_str(self.scope.name());
        out.push_str("/></D:lockscope><D:depth>");
        out.push_str(match self.depth {
            LockDepth::Zero => "0",
            LockDepth::Infinity => "infinity",
        });
        out.push_str("</D:depth>");
        if !self.owner.is_empty() {
            out.push_str(&self.owner);
        }
        text_element("timeout", &format!("Second-{}", self.seconds), out);
        if let Some(token) = &self.token {
            out.push_str("<D:locktoken>");
            text_element("href", token, out);
            out.push_str("</D:locktoken>");
        }
        out.push_str("<D:lockroot>");
        text_element("href", &self.root, out);
        out.push_str("</D:lockroot></D:activelock>");
    }
}

/// Returns the element `lockdiscovery`. The prefix `D` has to be bound.
#[must_use]
pub fn lock_discovery(locks: &[ActiveLock]) -> String {
    if locks.is_empty() {
        return "<D:lockdiscovery/>".to_owned();
    }
    let mut out = "<D:lockdiscovery>".to_owned();
    for lock in locks {
        lock.write(&mut out);
    }
    out.push_str("</D:lockdiscovery>");
    out
}

/// Returns the element `supportedlock`. The prefix `D` has to be bound.
#[must_use]
pub fn supported_lock() -> String {
    let mut out = "<D:supportedlock>".to_owned();
    for scope in [LockScope::Exclusive, LockScope::Shared] {
        out.push_str("<D:lockentry><D:lockscope><D:");
        out.push_str(scope.name());
        out.push_str("/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>");
    }
    out.push_str("</D:supportedlock>");
    out
}

/// Returns the body of the answer to LOCK (RFC 4918, section 9.10.1).
#[must_use]
pub fn lock_response(lock: &ActiveLock) -> String {
    let mut out =
        String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:prop xmlns:D=\"DAV:\">");
    out.push_str(&lock_discovery(std::slice::from_ref(lock)));
    out.push_str("</D:prop>\n");
    out
}
