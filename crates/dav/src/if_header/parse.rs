//! Reads the grammar of the header If.

use super::model::{ConditionList, StateCondition, StateToken};
use crate::error::DavError;
use crate::limits::CONDITIONS_MAX;

/// Reads lists, each with the resource that was named before it.
pub(super) fn parse(text: &str) -> Result<Vec<ConditionList>, DavError> {
    let mut rest = Rest(text);
    let mut lists: Vec<ConditionList> = Vec::new();
    let mut resource = None;
    let mut count = 0;
    loop {
        rest.skip_spaces();
        if rest.0.is_empty() {
            break;
        }
        if rest.0.starts_with('<') {
            let is_late = lists.last().is_some_and(|list| list.resource.is_none());
            let is_empty =
                resource.is_some() && !lists.iter().any(|list| list.resource == resource);
            if is_late || is_empty {
                return Err(syntax());
            }
            resource = Some(rest.enclosed('<', '>')?.to_owned());
            continue;
        }
        let conditions = rest.list()?;
        count += conditions.len();
        if count > CONDITIONS_MAX {
            return Err(DavError::syntax("the header If has too many conditions"));
        }
        lists.push(ConditionList { resource: resource.clone(), conditions });
    }
    let is_open = resource.is_some() && lists.last().is_none_or(|list| list.resource != resource);
    if lists.is_empty() || is_open {
        return Err(syntax());
    }
    Ok(lists)
}

fn syntax() -> DavError {
    DavError::syntax("the header If does not follow its grammar")
}

/// What has not been read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// Takes a text between two marks, of which it has none.
    fn enclosed(&mut self, begin: char, end: char) -> Result<&'a str, DavError> {
        let inner = self.0.strip_prefix(begin).ok_or_else(syntax)?;
        let (text, rest) = inner.split_once(end).ok_or_else(syntax)?;
        if text.is_empty() || text.contains([begin, ' ', '\t']) {
            return Err(syntax());
        }
        self.0 = rest;
        Ok(text)
    }

    /// Takes conditions in parentheses.
    fn list(&mut self) -> Result<Vec<StateCondition>, DavError> {
        self.0 = self.0.strip_prefix('(').ok_or_else(syntax)?;
        let mut conditions = Vec::new();
        loop {
            self.skip_spaces();
            if let Some(rest) = self.0.strip_prefix(')') {
                self.0 = rest;
                return if conditions.is_empty() { Err(syntax()) } else { Ok(conditions) };
            }
            conditions.push(self.condition()?);
        }
    }

    fn condition(&mut self) -> Result<StateCondition, DavError> {
        let word = self.0.split_at_checked(3).filter(|(word, _)| word.eq_ignore_ascii_case("not"));
        let is_negated = word.is_some();
        if let Some((_, rest)) = word {
            self.0 = rest;
            self.skip_spaces();
        }
        let token = if self.0.starts_with('[') {
            StateToken::EntityTag(self.entity_tag()?.to_owned())
        } else {
            StateToken::Lock(self.enclosed('<', '>')?.to_owned())
        };
        Ok(StateCondition { is_negated, token })
    }

    /// Takes an entity tag in brackets. Its opaque part may contain brackets.
    fn entity_tag(&mut self) -> Result<&'a str, DavError> {
        let inner = self.0.strip_prefix('[').ok_or_else(syntax)?;
        let opaque = inner.strip_prefix("W/").unwrap_or(inner);
        let length = opaque.strip_prefix('"').and_then(|text| text.find('"'));
        let length = inner.len() - opaque.len() + length.ok_or_else(syntax)? + 2;
        let (tag, rest) = inner.split_at(length);
        self.0 = rest.strip_prefix(']').ok_or_else(syntax)?;
        Ok(tag)
    }
}
