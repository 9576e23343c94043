//! Request methods.

use std::fmt;

/// A request method; its name is case-sensitive (RFC 9110, section 9; RFC 4918, section 9).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the methods")]
pub enum Method {
    Get,
    Head,
    Options,
    Put,
    Post,
    Patch,
    Delete,
    Mkcol,
    Copy,
    Move,
    Propfind,
    Proppatch,
    Lock,
    Unlock,
    /// A method that has no meaning here.
    Other(String),
}

/// The methods that are not [`Method::Other`], with their names.
const NAMES: [(&str, Method); 14] = [
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("OPTIONS", Method::Options),
    ("PUT", Method::Put),
    ("POST", Method::Post),
    ("PATCH", Method::Patch),
    ("DELETE", Method::Delete),
    ("MKCOL", Method::Mkcol),
    ("COPY", Method::Copy),
    ("MOVE", Method::Move),
    ("PROPFIND", Method::Propfind),
    ("PROPPATCH", Method::Proppatch),
    ("LOCK", Method::Lock),
    ("UNLOCK", Method::Unlock),
];

impl Method {
    /// Makes a method of its name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known.map_or_else(|| Self::Other(name.to_owned()), |(_, method)| method.clone())
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => NAMES.iter().find(|(_, method)| method == known).map_or("", |(name, _)| name),
        }
    }

    /// Whether a client asks for no change by it (RFC 9110, section 9.2.1).
    #[must_use]
    pub fn is_safe(&self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Propfind)
            || matches!(self, Self::Other(name) if name == "TRACE")
    }

    /// Whether it reads a representation, so that 304 and ranges can answer it.
    #[must_use]
    pub fn is_get_or_head(&self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_case_sensitive() {
        for (name, method) in NAMES {
            assert_eq!(Method::new(name), method);
            assert_eq!(method.to_string(), name);
        }
        assert_eq!(Method::new("get"), Method::Other("get".to_owned()));
        assert_eq!(Method::new("get").name(), "get");
    }

    #[test]
    fn unknown_methods_are_unsafe() {
        for name in ["GET", "HEAD", "OPTIONS", "PROPFIND", "TRACE"] {
            assert!(Method::new(name).is_safe(), "{name}");
        }
        for name in ["PUT", "POST", "DELETE", "LOCK", "COPY", "REPORT", "get"] {
            assert!(!Method::new(name).is_safe(), "{name}");
        }
    }
}
