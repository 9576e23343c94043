//! Questions for slaves, of their trees and the like: the parts of an answer come in on the slave's link and go to whoever asked.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use relais_cluster::LinkId;
use relais_proto::{LinkMessage, PathPage, TreePage};

use crate::links::{Linked, Links};

/// Time for each part of an answer.
const PART_TIME: Duration = Duration::from_secs(30);

/// Why no more comes.
const ENDED: &str = "its link ended";

/// A part of an answer.
pub(crate) trait Part {
    /// The number of the question.
    fn query(&self) -> u64;
    /// Whether no more comes.
    fn is_last(&self) -> bool;
}

impl Part for TreePage {
    fn query(&self) -> u64 {
        self.query
    }

    fn is_last(&self) -> bool {
        self.last
    }
}

impl Part for PathPage {
    fn query(&self) -> u64 {
        self.query
    }

    fn is_last(&self) -> bool {
        self.last
    }
}

/// The questions that are open, of one kind.
#[derive(Debug)]
pub(crate) struct Queries<T> {
    open: Mutex<Open<T>>,
}

#[derive(Debug)]
struct Open<T> {
    last: u64,
    asked: HashMap<u64, (LinkId, Sender<T>)>,
}

impl<T> Default for Queries<T> {
    fn default() -> Self {
        Self { open: Mutex::new(Open { last: 0, asked: HashMap::new() }) }
    }
}

impl<T: Part> Queries<T> {
    /// Asks a slave with the message that a number makes, and gives each part of the answer to `each`, first to last.
    ///
    /// # Errors
    /// Why it did not come whole, for people.
    pub fn ask(
        &self,
        links: &Links,
        of: &Linked,
        question: impl FnOnce(u64) -> LinkMessage,
        mut each: impl FnMut(T),
    ) -> Result<(), String> {
        let (query, parts) = self.begin(of.link);
        // Where the link has just ended nobody tells this question of it.
        let result = if links.has(of.link) {
            of.outbox.send(&question(query));
            collect(&parts, &mut each)
        } else {
            Err(ENDED.to_owned())
        };
        self.open().asked.remove(&query);
        result
    }

    fn begin(&self, link: LinkId) -> (u64, Receiver<T>) {
        let (to, parts) = channel();
        let mut open = self.open();
        open.last += 1;
        let query = open.last;
        open.asked.insert(query, (link, to));
        (query, parts)
    }

    /// A part came on a link. One that nobody waits for any more is dropped.
    pub fn came(&self, link: LinkId, part: T) {
        if let Some((asked, to)) = self.open().asked.get(&part.query())
            && *asked == link
        {
            // Whoever asked may have given up this moment.
            let _ = to.send(part);
        }
    }

    /// No more comes on this link, which is out of the list of links already: whoever waits for it hears so.
    pub fn ended(&self, link: LinkId) {
        self.open().asked.retain(|_, (asked, _)| *asked != link);
    }

    fn open(&self) -> MutexGuard<'_, Open<T>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect<T: Part>(parts: &Receiver<T>, each: &mut impl FnMut(T)) -> Result<(), String> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    loop {
        let part = parts.recv_timeout(PART_TIME).map_err(|error| match error {
            Timeout => format!("it did not answer within {} s", PART_TIME.as_secs()),
            Disconnected => ENDED.to_owned(),
        })?;
        let last = part.is_last();
        each(part);
        if last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use relais_cluster::{ConnectionAddrs, SlaveAddresses};
    use relais_proto::{FolderId, SlaveId};

    use super::*;
    use crate::outbox::Outbox;

    #[test]
    fn a_question_on_a_link_that_has_ended_does_not_wait() {
        let (links, queries) = (Links::default(), Queries::<TreePage>::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let at = stream.local_addr().unwrap();
        let linked = Linked {
            link: LinkId(7),
            slave: SlaveId([1; 16]),
            folder: FolderId([2; 16]),
            place: SlaveAddresses {
                listen: vec![at],
                advertised: Vec::new(),
                peer: at.ip(),
                same_host: true,
            },
            seen_from: ConnectionAddrs { peer: at.ip(), local: at.ip() },
            outbox: Arc::new(Outbox::new(Arc::new(stream.into()))),
        };
        links.add(linked.clone());
        links.remove(linked.link);
        queries.ended(linked.link);
        let began = Instant::now();
        let question = |query| LinkMessage::AskTree { query, ids: false };
        assert_eq!(queries.ask(&links, &linked, question, |_| ()).unwrap_err(), ENDED);
        assert!(began.elapsed() < PART_TIME / 3);
    }
}
