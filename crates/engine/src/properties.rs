//! Dead properties of files and folders (RFC 4918, section 4).

use std::collections::VecDeque;

use relais_proto::{
    Change, ChangeId, Encoder, Expect, Property, PropertyChange, Refusal, TreePath, Wire, limits,
};
use relais_storage::Proposal;

use crate::change::{PreparedChange, bind_id};
use crate::keep_alive::KeepAlive;
use crate::session::Session;
use crate::transfer_log::LoggedCommand;

impl Session {
    /// Returns the properties of a path, ordered by name. A path without an entry has none.
    ///
    /// # Errors
    /// Those of [`Session::check_ready`].
    pub fn properties(
        &self,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Vec<Property>, Refusal> {
        Ok(self.properties_of(std::slice::from_ref(path), keepalive)?.pop().unwrap_or_default())
    }

    /// Returns the properties of several paths, such as those of a page of a listing.
    ///
    /// # Errors
    /// Those of [`Session::check_ready`].
    pub fn properties_of(
        &self,
        paths: &[TreePath],
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Vec<Vec<Property>>, Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        let paths: Result<Vec<TreePath>, Refusal> =
            paths.iter().map(|path| context.principal.resolve(path)).collect();
        let paths = context.visible(paths)?;
        let found = context.with_catalogue(|store| store.properties_of(&paths))?;
        // Before there is a catalogue the result is empty.
        Ok(if found.is_empty() { vec![Vec::new(); paths.len()] } else { found })
    }

    /// Prepares to set and remove properties of a path; the others stay.
    ///
    /// `expect` is the precondition on the entry.
    ///
    /// # Errors
    /// [`ErrorCode::Limit`](relais_proto::ErrorCode::Limit) if they are too long or too many; as
    /// [`Session::make_folder`].
    pub fn set_properties(
        &self,
        id: ChangeId,
        path: &TreePath,
        changes: Vec<PropertyChange>,
        expect: Expect,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PreparedChange, Refusal> {
        let command = LoggedCommand::SetProperties;
        self.prepare(command, (path, None), expect, keepalive, |principal| {
            PropertyChange::check_sizes(&changes)?;
            let path = principal.resolve(path)?;
            let mut kind = b"properties ".to_vec();
            changes.iter().for_each(|change| change.encode(&mut Encoder::new(&mut kind)));
            let id = bind_id(principal, id, &kind, &[&path], None);
            Ok((id, Change::SetProperties { path, changes }))
        })
    }

    /// Prepares to give the entry at `to` the properties of that at `from`, and no others; none if
    /// it has exactly these.
    ///
    /// Copies of files have their properties already; this is for copies of folders.
    ///
    /// # Errors
    /// As [`Session::make_folder`].
    pub fn copy_properties(
        &self,
        id: ChangeId,
        from: &TreePath,
        to: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Option<PreparedChange>, Refusal> {
        let mut record = self.begin(LoggedCommand::SetProperties, from, Some(to), keepalive)?;
        let context = &self.context;
        let (from, to) = (context.principal.resolve(from), context.principal.resolve(to));
        let copied = from.and_then(|from| self.property_copies(id, &from, &to?));
        let mut proposals = context.recorded(&mut record, copied)?;
        let Some(first) = proposals.pop_front() else {
            record.end(Ok(()));
            return Ok(None);
        };
        let change = PreparedChange::new(first, record);
        Ok(Some(PreparedChange { follow_ups: proposals, ..change }))
    }

    /// Returns the changes that give a path of the tree exactly the properties of another one.
    pub(crate) fn property_copies(
        &self,
        id: ChangeId,
        from: &TreePath,
        to: &TreePath,
    ) -> Result<VecDeque<Proposal>, Refusal> {
        let paths = [from.clone(), to.clone()];
        let found = self.context.with_catalogue(|store| store.properties_of(&paths))?;
        let [wanted, present] = &found[..] else { return Ok(VecDeque::new()) };
        let principal = &self.context.principal;
        let proposal = |(n, changes)| {
            let id = bind_id(principal, id, b"cp properties", &[from, to], Some(n));
            let change = Change::SetProperties { path: to.clone(), changes };
            Proposal { tokens: self.lock_tokens.clone(), ..Proposal::new(id, change) }
        };
        Ok((0..).zip(in_requests(differences(wanted, present))).map(proposal).collect())
    }
}

/// Returns the changes that turn properties into the wanted ones.
fn differences(wanted: &[Property], present: &[Property]) -> Vec<PropertyChange> {
    let gone = present.iter().filter(|there| wanted.iter().all(|other| other.name != there.name));
    let gone = gone.map(|there| PropertyChange { name: there.name.clone(), value: None });
    let new = wanted.iter().filter(|wanted| !present.contains(wanted));
    let new =
        new.cloned().map(|Property { name, value }| PropertyChange { name, value: Some(value) });
    gone.chain(new).collect()
}

/// Divides changes into requests of a permitted size.
fn in_requests(changes: Vec<PropertyChange>) -> Vec<Vec<PropertyChange>> {
    let mut requests: Vec<Vec<PropertyChange>> = Vec::new();
    let mut room = 0;
    for change in changes {
        let fits = change.bytes() <= room;
        match requests.last_mut().filter(|last| fits && last.len() < limits::PROPERTIES) {
            Some(last) => {
                room -= change.bytes();
                last.push(change);
            }
            None => {
                room = limits::PROPERTY_CHANGE.saturating_sub(change.bytes());
                requests.push(vec![change]);
            }
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use relais_proto::PropertyName;

    use super::*;

    fn property(local: &str, value: &str) -> Property {
        let name = PropertyName { namespace: "urn:x".to_owned(), local: local.to_owned() };
        Property { name, value: value.to_owned() }
    }

    #[test]
    fn a_copy_changes_only_what_differs() {
        let wanted = [property("a", "1"), property("b", "2"), property("c", "3")];
        let present = [property("a", "1"), property("b", "other"), property("d", "4")];
        let changed = |local: &str, value: Option<&str>| PropertyChange {
            name: property(local, "").name,
            value: value.map(str::to_owned),
        };
        let expected = [changed("d", None), changed("b", Some("2")), changed("c", Some("3"))];
        assert_eq!(differences(&wanted, &present), expected);
        assert!(in_requests(differences(&wanted, &wanted)).is_empty());
    }

    #[test]
    fn requests_keep_to_the_limits() {
        let large = "x".repeat(limits::PROPERTY_VALUE);
        let many = limits::PROPERTIES + 1;
        let small = (0..many).map(|n| property(&n.to_string(), "v"));
        let large = ["A", "B", "C"].map(|name| property(name, &large));
        let wanted: Vec<_> = small.chain(large).collect();
        let requests = in_requests(differences(&wanted, &[]));
        assert!(requests.iter().all(|changes| PropertyChange::check_sizes(changes).is_ok()));
        assert_eq!(requests.iter().map(Vec::len).sum::<usize>(), many + 3);
        assert_eq!(requests.len(), 4);
    }
}
