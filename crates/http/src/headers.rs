//! Header fields of a request or an answer.

use std::borrow::Cow;

/// Header fields in their order; names are case-insensitive (RFC 9110, section 5.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Cow<'static, str>, Cow<'static, str>)>);

impl Headers {
    /// Returns the value of the first field with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Returns the values of all fields with this name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// Whether there is a field with this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns the elements of a comma-separated list, over all fields with this name.
    ///
    /// Empty elements are skipped (RFC 9110, section 5.6.1). It must not be used for values in
    /// which a quoted string may hold a comma.
    pub fn list<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let elements = self.all(name).flat_map(|value| value.split(','));
        elements.map(|element| element.trim_matches([' ', '\t'])).filter(|e| !e.is_empty())
    }

    /// Sets a field, in place of all fields with this name.
    pub fn insert(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) {
        let name = name.into();
        self.remove(&name);
        self.0.push((name, value.into()));
    }

    /// Adds a field beside others with this name.
    pub fn append(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) {
        self.0.push((name.into(), value.into()));
    }

    /// Removes all fields with this name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }

    /// Returns all fields, each with its name as it was set or sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns the number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ignore_case_and_values_keep_their_order() {
        let mut headers = Headers::default();
        headers.append("If-Match", "\"a\"");
        headers.append("if-match", "\"b\" ,, \"c\"");
        headers.append("Host", "x");
        assert_eq!(headers.all("IF-MATCH").collect::<Vec<_>>(), ["\"a\"", "\"b\" ,, \"c\""]);
        assert_eq!(headers.list("IF-MATCH").collect::<Vec<_>>(), ["\"a\"", "\"b\"", "\"c\""]);
        assert_eq!(headers.get("host"), Some("x"));
        headers.insert("IF-match", "*".to_owned());
        assert_eq!(headers.all("if-match").collect::<Vec<_>>(), ["*"]);
        headers.remove("HOST");
        assert!(!headers.has("Host"));
        assert_eq!(headers.len(), 1);
    }
}
