//! The texts of events: changed states of slaves, changed accounts, and an order that is halted.

use std::sync::Arc;

use log::Level;
use parking_lot::Mutex;
use relais_auth::Accounts;
use relais_cluster::{HaltReason, SlaveStateChange};
use relais_coordinator::halted_text;
use relais_proto::{SlaveState, quote};

use crate::events::EventLog;

/// What was announced last.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    accounts: Mutex<Option<Arc<Accounts>>>,
    halted: Mutex<Option<HaltReason>>,
}

impl Announced {
    /// Begins with these accounts, which are no news.
    pub fn new(accounts: Option<Arc<Accounts>>) -> Self {
        Self { accounts: Mutex::new(accounts), halted: Mutex::default() }
    }

    /// Records the changes of accounts since the last call.
    pub fn accounts(&self, new: Option<Arc<Accounts>>, events: &EventLog) {
        let old = std::mem::replace(&mut *self.accounts.lock(), new.clone());
        let is_same = match (&old, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !is_same {
            for text in changes(old.as_deref(), new.as_deref()) {
                events.record(Level::Info, text);
            }
        }
    }

    /// Keeps the event that no changes are taken any more, or again. The order thread has logged
    /// it.
    pub fn halt(&self, halted: Option<HaltReason>, events: &EventLog) {
        let before = std::mem::replace(&mut *self.halted.lock(), halted);
        match halted {
            same if same == before => {}
            Some(halt) => events.keep(Level::Error, &halted_text(halt)),
            None => events.record(Level::Info, "changes are taken again".to_owned()),
        }
    }
}

/// Returns what has become of a slave.
pub(crate) fn state_text(notice: &SlaveStateChange) -> (Level, String) {
    let who = match notice.addr {
        Some(addr) => format!("slave {} at {addr}", notice.id),
        None => format!("slave {}", notice.id),
    };
    match (notice.from, notice.to) {
        (_, SlaveState::InService) => (Level::Info, format!("{who} is in service")),
        (None, SlaveState::CatchingUp) => (Level::Info, format!("{who} joined")),
        (Some(SlaveState::Down), SlaveState::CatchingUp) => {
            (Level::Info, format!("{who} came back"))
        }
        (_, SlaveState::Down) => (Level::Warn, format!("{who} left: it is out of service")),
        (_, state) => (Level::Info, format!("{who} is {}", state.text())),
    }
}

/// Returns what has become of accounts.
fn changes(old: Option<&Accounts>, new: Option<&Accounts>) -> Vec<String> {
    let mut texts = Vec::new();
    for (name, account) in old.iter().flat_map(|old| old.iter()) {
        let name_text = quote(name);
        match new.and_then(|new| new.get(name)) {
            None => texts.push(format!("account {name_text} was removed")),
            Some(now) if now.rights != account.rights => {
                texts.push(format!("account {name_text} has the rights {} now", now.rights.text()));
            }
            Some(now) if now.root != account.root => {
                texts.push(format!("account {name_text} has another root folder now"));
            }
            Some(now) if now.hash != account.hash => {
                texts.push(format!("account {name_text} has another password now"));
            }
            Some(_) => {}
        }
    }
    for (name, _) in new.iter().flat_map(|new| new.iter()) {
        if old.and_then(|old| old.get(name)).is_none() {
            texts.push(format!("account {} was added", quote(name)));
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use relais_auth::{Account, PasswordHash, Rights};
    use relais_proto::TreePath;

    use super::*;

    fn texts(events: &EventLog) -> Vec<String> {
        events.after(0).into_iter().map(|event| event.text).collect()
    }

    #[test]
    fn changes_of_accounts_are_told_once() {
        let hash = PasswordHash::of(b"secret").unwrap();
        let with = |names: &[(&str, Rights)]| {
            let mut accounts = Accounts::default();
            for (name, rights) in names {
                let root = TreePath::default();
                accounts.add(name, Account { rights: *rights, root, hash: hash.clone() }).unwrap();
            }
            Some(Arc::new(accounts))
        };
        let (announced, events) = (Announced::new(None), EventLog::default());
        announced.accounts(None, &events);
        assert!(texts(&events).is_empty());
        let two = with(&[("ann", Rights::Read), ("bob", Rights::Write)]);
        announced.accounts(two.clone(), &events);
        announced.accounts(two, &events);
        let added = [r#"account "ann" was added"#, r#"account "bob" was added"#];
        assert_eq!(texts(&events), added);
        announced.accounts(with(&[("ann", Rights::Admin)]), &events);
        let changed = [r#"account "ann" has the rights admin now"#, r#"account "bob" was removed"#];
        assert_eq!(texts(&events)[2..], changed);
    }

    #[test]
    fn a_halt_and_its_end_are_told_once() {
        let (announced, events) = (Announced::new(None), EventLog::default());
        for halted in [None, Some(HaltReason::Broken), Some(HaltReason::Broken), None, None] {
            announced.halt(halted, &events);
        }
        let texts = texts(&events);
        assert!(texts.len() == 2 && texts[0].contains("the journal cannot"), "{texts:?}");
        assert_eq!(texts[1], "changes are taken again");
    }
}
