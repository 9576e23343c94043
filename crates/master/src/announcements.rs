//! Events that the login thread notices: changed accounts, and an order that is halted.

use std::sync::Arc;

use log::Level;
use parking_lot::Mutex;
use relais_auth::Accounts;
use relais_cluster::HaltReason;
use relais_coordinator::halted_text;
use relais_proto::quote;

use crate::core::Core;

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
}

impl Core {
    /// Records the changes of accounts since the last call.
    pub fn announce_accounts(&self) {
        let new = self.config.accounts.current();
        let old = std::mem::replace(&mut *self.announced.accounts.lock(), new.clone());
        let is_same = match (&old, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !is_same {
            for text in changes(old.as_deref(), new.as_deref()) {
                self.events.record(Level::Info, text);
            }
        }
    }

    /// Keeps the event that no changes are taken any more, or again. The order thread has logged
    /// it.
    pub fn announce_halt(&self) {
        let halted = self.order_status.get().halted;
        let before = std::mem::replace(&mut *self.announced.halted.lock(), halted);
        match halted {
            same if same == before => {}
            Some(halt) => self.events.keep(Level::Error, &halted_text(halt)),
            None => self.events.record(Level::Info, "changes are taken again".to_owned()),
        }
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
