//! The header If: conditions on tokens and entity tags (RFC 4918, section 10.4).

mod model;
mod parse;
#[cfg(test)]
mod tests;

use crate::error::DavError;
use model::{ConditionList, StateCondition};

pub use model::{ResourceState, StateToken};

/// The value of an `If` header: it holds if one of its lists holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfHeader {
    lists: Vec<ConditionList>,
}

impl IfHeader {
    /// Reads the value of the header.
    ///
    /// # Errors
    /// 400 if it does not follow the grammar or has too many conditions.
    pub fn parse(text: &str) -> Result<Self, DavError> {
        parse::parse(text).map(|lists| Self { lists })
    }

    /// Returns the URIs of the tokens that the header names: its client submits them.
    pub fn submitted_tokens(&self) -> impl Iterator<Item = &str> {
        let conditions = self.lists.iter().flat_map(|list| &list.conditions);
        conditions.filter_map(|condition| match &condition.token {
            StateToken::Lock(token) => Some(token.as_str()),
            StateToken::EntityTag(_) => None,
        })
    }

    /// Whether the header holds. `state` returns what a resource has; none: that of the request.
    ///
    /// # Errors
    /// Those of `state`.
    pub fn holds<E>(
        &self,
        mut state: impl FnMut(Option<&str>) -> Result<ResourceState, E>,
    ) -> Result<bool, E> {
        for list in &self.lists {
            let state = state(list.resource.as_deref())?;
            let holds =
                |condition: &StateCondition| state.has(&condition.token) != condition.is_negated;
            if list.conditions.iter().all(holds) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
