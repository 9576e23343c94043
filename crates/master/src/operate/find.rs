//! Which slave an operator means.

use std::fmt::Display;

use relais_cluster::ConnectionAddrs;
use relais_proto::{SlaveReport, sanitize};

use crate::core::Core;

/// Fewest digits of an id that stand for it.
const DIGITS: usize = 4;

/// The slave with this id, with an id that begins so, or with this address.
pub(super) fn slave(
    core: &Core,
    asker: ConnectionAddrs,
    name: &str,
) -> Result<SlaveReport, String> {
    let reports = core.reports(asker);
    let named = |report: &SlaveReport| {
        begins(&report.id, name) || report.addrs.iter().any(|addr| addr.to_string() == name)
    };
    one(reports.into_iter().filter(named), name, "slave", |report| report.id)
}

/// Whether an id begins with these digits, and they are enough to tell ids apart.
pub(super) fn begins(id: &impl Display, name: &str) -> bool {
    name.len() >= DIGITS && id.to_string().starts_with(&name.to_ascii_lowercase())
}

/// The only one there is.
pub(super) fn one<T, I: Display>(
    mut found: impl Iterator<Item = T>,
    name: &str,
    what: &str,
    id: impl Fn(&T) -> I,
) -> Result<T, String> {
    let name = sanitize(name);
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        (Some(first), Some(second)) => Err(format!(
            "{name} is not the only one: {} and {} are meant by it",
            id(&first),
            id(&second)
        )),
        _ => Err(format!(
            "no {what} has the id or address {name}; name it as `ftpmaster status` does, with {DIGITS} digits of its id at least"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::SlaveId;

    #[test]
    fn an_id_is_known_by_four_digits() {
        let id = SlaveId([0xab; 16]);
        assert!(begins(&id, "abab") && begins(&id, "ABABA") && begins(&id, &"ab".repeat(16)));
        assert!(
            !begins(&id, "aba")
                && !begins(&id, "")
                && !begins(&id, "abac")
                && !begins(&id, &"ab".repeat(17))
        );
        let found = [id, SlaveId([1; 16])];
        assert_eq!(one(found[..1].iter(), "x", "slave", |id| **id), Ok(&id));
        assert!(
            one(found.iter(), "x", "slave", |id| **id).unwrap_err().contains("not the only one")
        );
        assert!(
            one(found[..0].iter(), "x\u{1b}", "slave", |id| **id)
                .unwrap_err()
                .starts_with("no slave has the id or address x\\u{1b}")
        );
    }
}
