//! Queries to slaves. The parts of an answer arrive on the slave's link and go to the caller.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use relais_cluster::LinkId;
use relais_proto::LinkMessage;

use crate::linked_slaves::{LinkedSlave, LinkedSlaves};

/// Timeout for each part of an answer.
const PART_TIME: Duration = Duration::from_secs(30);

/// The reason of a query that the end of the link interrupted.
const ENDED: &str = "its link ended";

/// The open queries of one kind. `T` is a part of an answer.
#[derive(Debug)]
pub(crate) struct Queries<T> {
    open: Mutex<OpenQueries<T>>,
}

#[derive(Debug)]
struct OpenQueries<T> {
    last: u64,
    asked: HashMap<u64, (LinkId, Sender<T>)>,
}

impl<T> Default for Queries<T> {
    fn default() -> Self {
        Self { open: Mutex::new(OpenQueries { last: 0, asked: HashMap::new() }) }
    }
}

impl<T> Queries<T> {
    /// Sends a query to a slave, and passes each part of the answer to `each`, in order.
    ///
    /// `question` makes the message from the number of the query. `each` returns whether its part
    /// is the last one.
    ///
    /// # Errors
    /// The reason why the answer is incomplete, for users.
    pub fn ask(
        &self,
        links: &LinkedSlaves,
        of: &LinkedSlave,
        question: impl FnOnce(u64) -> LinkMessage,
        each: impl FnMut(T) -> bool,
    ) -> Result<(), String> {
        let (query, parts) = self.begin(of.link);
        // If the link has just ended, `ended` was called before this query was open.
        let result = if links.get(of.link).is_some() {
            of.outbox.send(&question(query));
            collect(&parts, each)
        } else {
            Err(ENDED.to_owned())
        };
        self.open.lock().asked.remove(&query);
        result
    }

    fn begin(&self, link: LinkId) -> (u64, Receiver<T>) {
        let (to, parts) = channel();
        let mut open = self.open.lock();
        open.last += 1;
        let query = open.last;
        open.asked.insert(query, (link, to));
        (query, parts)
    }

    /// Handles a part that arrived on a link. A part without an open query is dropped.
    pub fn came(&self, link: LinkId, query: u64, part: T) {
        if let Some((asked, to)) = self.open.lock().asked.get(&query)
            && *asked == link
        {
            // The caller may have given up.
            let _ = to.send(part);
        }
    }

    /// Ends the queries of a link, which was removed from the list of links before.
    pub fn ended(&self, link: LinkId) {
        self.open.lock().asked.retain(|_, (asked, _)| *asked != link);
    }
}

fn collect<T>(parts: &Receiver<T>, mut each: impl FnMut(T) -> bool) -> Result<(), String> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    loop {
        let part = parts.recv_timeout(PART_TIME).map_err(|error| match error {
            Timeout => format!("it did not answer within {} s", PART_TIME.as_secs()),
            Disconnected => ENDED.to_owned(),
        })?;
        if each(part) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use relais_cluster::{ConnectionAddrs, SlaveAddresses};
    use relais_proto::{FolderId, SlaveId, TreePage};

    use super::*;
    use crate::outbox::Outbox;

    #[test]
    fn a_query_on_an_ended_link_fails_at_once() {
        let (links, queries) = (LinkedSlaves::default(), Queries::<TreePage>::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let at = stream.local_addr().unwrap();
        let linked = LinkedSlave {
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
            outbox: Arc::new(Outbox::new(Arc::new(relais_net::Stream::tcp(stream).unwrap()))),
            agent: String::new(),
            heartbeat: None,
        };
        links.add(linked.clone());
        links.remove(linked.link);
        queries.ended(linked.link);
        let began = Instant::now();
        let question = |query| LinkMessage::AskTree { query, ids: false };
        assert_eq!(queries.ask(&links, &linked, question, |_| true).unwrap_err(), ENDED);
        assert!(began.elapsed() < PART_TIME / 3);
    }
}
