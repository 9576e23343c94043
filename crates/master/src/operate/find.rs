//! Finds the slave that an operator names.

use std::fmt::Display;

use relais_proto::{SlaveReport, sanitize};

use super::session::OperatorSession;

/// Fewest digits of an id that name it.
const DIGITS: usize = 4;

/// Finds the slave by its id, a prefix of its id, or its address.
pub(super) fn slave(session: &OperatorSession<'_>, name: &str) -> Result<SlaveReport, String> {
    find_slave(session.reports(), name)
}

/// Finds a slave as [`slave`] does, among these.
pub(crate) fn find_slave(reports: Vec<SlaveReport>, name: &str) -> Result<SlaveReport, String> {
    let named = |report: &SlaveReport| {
        begins(&report.id, name) || report.addrs.iter().any(|addr| addr.to_string() == name)
    };
    one(reports.into_iter().filter(named), name, |report| report.id)
}

/// Whether an id begins with these digits, and they are enough to name it.
pub(super) fn begins(id: &impl Display, name: &str) -> bool {
    name.len() >= DIGITS && id.to_string().starts_with(&name.to_ascii_lowercase())
}

/// Returns the only item; an error if there is none or several.
pub(super) fn one<T, I: Display>(
    mut found: impl Iterator<Item = T>,
    name: &str,
    id: impl Fn(&T) -> I,
) -> Result<T, String> {
    let name = sanitize(name);
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        (Some(first), Some(second)) => {
            Err(format!("{name} is ambiguous: it names {} and {}", id(&first), id(&second)))
        }
        _ => Err(format!(
            "no slave has the id or address {name}; name it as `ftpmaster status` does, \
             by at least {DIGITS} digits of its id"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::SlaveId;

    #[test]
    fn four_digits_name_an_id() {
        let id = SlaveId([0xab; 16]);
        assert!(begins(&id, "abab") && begins(&id, "ABABA") && begins(&id, &"ab".repeat(16)));
        assert!(
            !begins(&id, "aba")
                && !begins(&id, "")
                && !begins(&id, "abac")
                && !begins(&id, &"ab".repeat(17))
        );
        let found = [id, SlaveId([1; 16])];
        assert_eq!(one(found[..1].iter(), "x", |id| **id), Ok(&id));
        assert!(one(found.iter(), "x", |id| **id).unwrap_err().contains("is ambiguous"));
        assert!(
            one(found[..0].iter(), "x\u{1b}", |id| **id)
                .unwrap_err()
                .starts_with("no slave has the id or address x\\u{1b}")
        );
    }
}
