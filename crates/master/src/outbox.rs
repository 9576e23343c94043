//! The outgoing queue of a link, so that no sender waits for a slave that does not read.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::{Condvar, Mutex};
use relais_coordinator::LinkSender;
use relais_net::{Connection, Stream};
use relais_proto::{LinkMessage, Reply};

/// Cap on waiting bytes. A slave requests pages one at a time, so only one that does not read
/// reaches it.
const CAP: usize = 64 * 1024 * 1024;
/// Size to which the buffer shrinks after a large write.
const KEPT: usize = 1024 * 1024;

/// The queue of one link.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<OutboxQueue>,
    news: Condvar,
    stream: Arc<Stream>,
}

#[derive(Debug, Default)]
struct OutboxQueue {
    bytes: Vec<u8>,
    /// Whether the queue accepts no more messages.
    closed: bool,
    /// Whether the writer has ended.
    written: bool,
}

impl OutboxQueue {
    fn close(&mut self) {
        self.bytes = Vec::new();
        self.closed = true;
    }
}

impl Outbox {
    /// Makes an empty queue. `stream` is that of the link.
    pub fn new(stream: Arc<Stream>) -> Self {
        Self { waiting: Mutex::default(), news: Condvar::new(), stream }
    }

    /// Queues a message. After the end of the link it is dropped.
    pub fn send(&self, message: &LinkMessage) {
        self.append(|bytes| message.encode(bytes));
    }

    /// Queues a reply, as [`Self::send`] does.
    pub fn reply(&self, reply: &Reply) {
        self.append(|bytes| reply.encode(bytes));
    }

    fn append(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return;
        }
        encode(&mut waiting.bytes);
        if waiting.bytes.len() > CAP {
            warn!("more than {CAP} bytes wait for a slave that does not read: link closed");
            waiting.close();
            drop(waiting);
            return self.cut();
        }
        self.news.notify_all();
    }

    /// Closes the queue and waits until it is sent, for at most `timeout`.
    pub fn finish(&self, timeout: Duration) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        self.news.notify_all();
        let until = Instant::now() + timeout;
        while !waiting.written {
            if self.news.wait_until(&mut waiting, until).timed_out() {
                drop(waiting);
                return self.cut();
            }
        }
    }

    /// Shuts down the link at once.
    pub fn cut(&self) {
        self.waiting.lock().close();
        self.news.notify_all();
        // It fails only if the peer has closed first.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Writes queued messages to `connection` until the queue is closed or the link fails.
    pub fn write(&self, mut connection: Connection) {
        self.write_all(&mut connection);
        self.waiting.lock().written = true;
        self.news.notify_all();
    }

    fn write_all(&self, connection: &mut Connection) {
        while let Some(bytes) = self.take(std::mem::take(connection.output())) {
            *connection.output() = bytes;
            if let Err(error) = connection.flush() {
                debug!("cannot write to the link of the slave at {}: {error}", connection.peer());
                return self.cut();
            }
            connection.output().shrink_to(KEPT);
        }
    }

    /// Waits for queued bytes and takes them all; none after the end. `room` is the next buffer.
    fn take(&self, room: Vec<u8>) -> Option<Vec<u8>> {
        let mut waiting = self.waiting.lock();
        while waiting.bytes.is_empty() {
            if waiting.closed {
                return None;
            }
            self.news.wait(&mut waiting);
        }
        Some(std::mem::replace(&mut waiting.bytes, room))
    }
}

impl LinkSender for Outbox {
    fn send(&self, message: LinkMessage) {
        self.append(|bytes| message.encode(bytes));
    }

    fn close(&self) {
        self.cut();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_slave_that_does_not_read_loses_its_link() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut slave = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = Connection::new(listener.accept().unwrap().0).unwrap();
        let outbox = Outbox::new(Arc::clone(connection.stream()));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| outbox.write(connection));
            let line = LinkMessage::Line("x".repeat(50_000));
            let begun = Instant::now();
            // The socket holds a few MiB itself.
            for _ in 0..2 * CAP / 50_000 {
                outbox.send(&line);
            }
            assert!(begun.elapsed() < Duration::from_secs(20));
            writer.join().unwrap();
        });
        assert!(outbox.waiting.lock().closed && outbox.waiting.lock().bytes.is_empty());
        let mut rest = Vec::new();
        // The end may also arrive as a reset.
        let _ = slave.read_to_end(&mut rest);
        assert!(rest.len() < CAP);
    }
}
