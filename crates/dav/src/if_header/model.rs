//! Conditions, and what a resource has.

/// Conditions on one resource: the list holds if each of them does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConditionList {
    /// URI of the resource; none: that of the request.
    pub resource: Option<String>,
    pub conditions: Vec<StateCondition>,
}

/// A condition: the resource has this token or entity tag, or it has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateCondition {
    pub is_negated: bool,
    pub token: StateToken,
}

/// What a resource may have at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateToken {
    /// A lock, by the URI of its token.
    Lock(String),
    /// An entity tag, with its quotes.
    EntityTag(String),
}

/// What a resource has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceState {
    /// The entity tag of a file, with its quotes.
    pub entity_tag: Option<String>,
    /// URIs of the tokens of the locks that cover the resource.
    pub lock_tokens: Vec<String>,
}

impl ResourceState {
    pub(super) fn has(&self, token: &StateToken) -> bool {
        match token {
            StateToken::Lock(token) => self.lock_tokens.contains(token),
            StateToken::EntityTag(tag) => self.entity_tag.as_ref() == Some(tag),
        }
    }
}
