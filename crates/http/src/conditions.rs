//! Conditional requests.

use std::time::SystemTime;

use crate::date;
use crate::entity_tag::EntityTag;
use crate::headers::Headers;
use crate::limits;
use crate::request_error::RequestError;

/// The tags of `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagList {
    /// `*`: any state, but the resource has to exist.
    Any,
    /// One of these tags.
    Tags(Vec<EntityTag>),
}

/// The conditions of a request (RFC 9110, section 13.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// `If-Match`.
    pub if_match: Option<TagList>,
    /// `If-None-Match`.
    pub if_none_match: Option<TagList>,
    /// `If-Modified-Since`; a malformed date is ignored.
    pub if_modified_since: Option<SystemTime>,
    /// `If-Unmodified-Since`; a malformed date is ignored.
    pub if_unmodified_since: Option<SystemTime>,
}

/// The present state of a resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct CurrentState<'a> {
    /// Whether the resource exists.
    pub exists: bool,
    /// Its tag.
    pub tag: Option<&'a EntityTag>,
    /// The time of its last modification.
    pub modified: Option<SystemTime>,
}

/// What follows from the conditions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The request is carried out.
    Proceed,
    /// The client has this state: status 304.
    NotModified,
    /// The condition is false: status 412.
    Failed,
}

impl Preconditions {
    /// Takes the conditions from the fields of a request.
    ///
    /// # Errors
    /// Status 400 for a malformed list of tags.
    pub fn parse(headers: &Headers) -> Result<Self, RequestError> {
        let date = |name| headers.get(name).and_then(date::parse);
        Ok(Self {
            if_match: parse_tags(headers, "if-match")?,
            if_none_match: parse_tags(headers, "if-none-match")?,
            if_modified_since: date("if-modified-since"),
            if_unmodified_since: date("if-unmodified-since"),
        })
    }

    /// Whether there is a condition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Evaluates the conditions in the order of RFC 9110, section 13.2.2.
    ///
    /// `reads`: the method is GET or HEAD. `If-Match` uses the strong comparison, `If-None-Match`
    /// the weak one.
    #[must_use]
    pub fn evaluate(&self, reads: bool, current: CurrentState<'_>) -> Decision {
        let seconds = |time: SystemTime| date::seconds(time);
        if let Some(tags) = &self.if_match {
            if !tags.matches(current, EntityTag::strong_eq) {
                return Decision::Failed;
            }
        } else if let Some(since) = self.if_unmodified_since
            && current.modified.is_none_or(|modified| seconds(modified) > seconds(since))
        {
            return Decision::Failed;
        }
        let not_modified = if reads { Decision::NotModified } else { Decision::Failed };
        if let Some(tags) = &self.if_none_match {
            if tags.matches(current, EntityTag::weak_eq) {
                return not_modified;
            }
        } else if let Some(since) = self.if_modified_since
            && reads
            && current.modified.is_some_and(|modified| seconds(modified) <= seconds(since))
        {
            return Decision::NotModified;
        }
        Decision::Proceed
    }
}

impl TagList {
    fn matches(&self, current: CurrentState<'_>, eq: fn(&EntityTag, &EntityTag) -> bool) -> bool {
        match self {
            Self::Any => current.exists,
            Self::Tags(tags) => {
                current.exists && current.tag.is_some_and(|tag| tags.iter().any(|t| eq(tag, t)))
            }
        }
    }
}

/// Whether the `Range` of a request counts, by its `If-Range` (RFC 9110, section 13.1.5).
///
/// It does without `If-Range`, or with the current strong tag. A date never counts: a file can
/// change twice in a second, so its date is no strong validator (RFC 9110, section 8.8.2.2).
#[must_use]
pub fn range_applies(headers: &Headers, tag: Option<&EntityTag>) -> bool {
    headers.get("if-range").is_none_or(|field| {
        let wanted = EntityTag::parse(field);
        wanted.zip(tag).is_some_and(|(wanted, tag)| wanted.strong_eq(tag))
    })
}

fn parse_tags(headers: &Headers, name: &'static str) -> Result<Option<TagList>, RequestError> {
    const BAD: RequestError = RequestError::bad("If-Match or If-None-Match is malformed");
    let mut tags = Vec::new();
    let mut is_there = false;
    for mut text in headers.all(name) {
        if text == "*" && !is_there {
            return Ok(Some(TagList::Any));
        }
        is_there = true;
        loop {
            text = text.trim_start_matches([' ', '\t', ',']);
            if text.is_empty() {
                break;
            }
            let (tag, rest) = EntityTag::split(text).ok_or(BAD)?;
            let rest = rest.trim_start_matches([' ', '\t']);
            if tags.len() == limits::LIST || !(rest.is_empty() || rest.starts_with(',')) {
                return Err(BAD);
            }
            tags.push(tag);
            text = rest;
        }
    }
    match tags.is_empty() {
        true if is_there => Err(BAD),
        true => Ok(None),
        false => Ok(Some(TagList::Tags(tags))),
    }
}

#[cfg(test)]
mod tests;
