//! Questions for the trees of slaves: the parts of an answer come in on the slave's link and go to whoever asked.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use relais_cluster::LinkId;
use relais_proto::{LinkMessage, TreePart};

use crate::links::Linked;

/// Time for each part of an answer.
const PART_TIME: Duration = Duration::from_secs(30);

/// The questions that are open.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    asked: HashMap<u64, (LinkId, Sender<TreePart>)>,
}

impl Queries {
    /// Asks a slave for its tree, with the ids of changes where `ids` says so, and gives each part to `each`, first to last.
    ///
    /// # Errors
    /// Why it did not come whole, for people.
    pub fn ask(&self, of: &Linked, ids: bool, mut each: impl FnMut(TreePart)) -> Result<(), String> {
        let (query, parts) = self.begin(of.link);
        of.outbox.send(&LinkMessage::AskTree { query, ids });
        let result = collect(&parts, &mut each);
        self.open().asked.remove(&query);
        result
    }

    fn begin(&self, link: LinkId) -> (u64, Receiver<TreePart>) {
        let (to, parts) = channel();
        let mut open = self.open();
        open.last += 1;
        let query = open.last;
        open.asked.insert(query, (link, to));
        (query, parts)
    }

    /// A part came on a link. One that nobody waits for any more is dropped.
    pub fn came(&self, link: LinkId, part: TreePart) {
        if let Some((asked, to)) = self.open().asked.get(&part.query)
            && *asked == link
        {
            // Whoever asked may have given up this moment.
            let _ = to.send(part);
        }
    }

    /// No more comes on this link: whoever waits for it hears so.
    pub fn ended(&self, link: LinkId) {
        self.open().asked.retain(|_, (asked, _)| *asked != link);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect(parts: &Receiver<TreePart>, each: &mut impl FnMut(TreePart)) -> Result<(), String> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    loop {
        let part = parts.recv_timeout(PART_TIME).map_err(|error| match error {
            Timeout => format!("it did not answer within {} s", PART_TIME.as_secs()),
            Disconnected => "its link ended".to_owned(),
        })?;
        let last = part.last;
        each(part);
        if last {
            return Ok(());
        }
    }
}
