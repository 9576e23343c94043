//! What a request is for: a path of the tree, a page of the master, or a form.

use relais_proto::TreePath;

use super::answer::Answer;
use super::operate::OperationKind;

/// What a request needs.
pub(super) enum Route {
    /// The answer is there.
    Answer(Answer),
    /// A form has to be read.
    Form(FormKind),
    /// Clients that may see pages of the master get this one.
    Page(Page),
    /// A slave serves this path, which is relative to the root of the request's user.
    Tree(TreePath),
}

/// What a form is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FormKind {
    Login,
    Logout,
    Operate(OperationKind),
}

/// A page that is for some clients alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// The state of the cluster.
    Status,
    /// The changes of that page.
    StatusEvents,
    /// The metrics for Prometheus.
    Metrics,
    /// The latest actions of operators, or one of them.
    Operations(Option<u64>),
}

impl Page {
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name.split('/').collect::<Vec<_>>()[..] {
            ["status"] => Self::Status,
            ["status", "events"] => Self::StatusEvents,
            ["metrics"] => Self::Metrics,
            ["status", "actions"] => Self::Operations(None),
            ["status", "actions", number] => Self::Operations(Some(number.parse().ok()?)),
            _ => return None,
        })
    }
}

impl FormKind {
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "login" => Self::Login,
            "logout" => Self::Logout,
            _ => Self::Operate(OperationKind::from_name(name.strip_prefix("status/")?)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_pages_and_forms() {
        for (name, page) in [
            ("status", Some(Page::Status)),
            ("status/events", Some(Page::StatusEvents)),
            ("metrics", Some(Page::Metrics)),
            ("status/actions", Some(Page::Operations(None))),
            ("status/actions/7", Some(Page::Operations(Some(7)))),
            ("status/actions/x", None),
            ("status/", None),
            ("", None),
        ] {
            assert_eq!(Page::of_name(name), page, "{name}");
        }
        for (name, form) in [
            ("login", Some(FormKind::Login)),
            ("logout", Some(FormKind::Logout)),
            ("status/drain", Some(FormKind::Operate(OperationKind::Drain))),
            ("status/diff", Some(FormKind::Operate(OperationKind::Diff))),
            ("status/recover", None),
            ("drain", None),
        ] {
            assert_eq!(FormKind::of_name(name), form, "{name}");
        }
    }
}
