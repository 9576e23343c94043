//! Sends the events of a watch until the client sends its next request.

use std::time::{Duration, Instant};

use relais_engine::{Watch, WatchUpdate};
use relais_net::Connection;
use relais_proto::{EventKind, Lsn, PathEvent, Refusal, Reply, WireError, limits};

/// Time between two looks for events.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Most bytes of an event beside its paths.
const EVENT_SIZE: usize = 512;

/// Sends `Events` as changes are applied, and each second; returns the last reply.
///
/// # Errors
/// The connection's.
pub fn send_events(
    connection: &mut Connection,
    watch: &mut Watch,
) -> Result<Result<Reply, Refusal>, WireError> {
    let mut sent_at: Option<Instant> = None;
    loop {
        let (lsn, events, more) = match watch.poll() {
            Ok(WatchUpdate::Events { lsn, events, more }) => (lsn, events, more),
            Ok(WatchUpdate::Lost { lsn }) => return Ok(Ok(Reply::EventsLost { lsn })),
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !events.is_empty() || sent_at.is_none_or(|at| at.elapsed() >= limits::WAIT_EVERY) {
            queue_events(connection, lsn, events);
            connection.flush()?;
            sent_at = Some(Instant::now());
        }
        // The end of the connection counts. A slave that gives its sessions up ends them.
        if connection.wait_for_input(if more { Duration::ZERO } else { POLL_INTERVAL })? {
            return Ok(watch.check_open().map(|()| Reply::Done { lsn }));
        }
    }
}

/// Queues events in frames that are not too long. Each change has one event at most.
fn queue_events(connection: &mut Connection, lsn: Lsn, events: Vec<PathEvent>) {
    let (mut frame, mut size): (Vec<PathEvent>, _) = (Vec::new(), EVENT_SIZE);
    for event in events {
        let source = match &event.kind {
            EventKind::Moved(source) => source.as_str().len(),
            _ => 0,
        };
        let event_size = EVENT_SIZE + event.path.as_str().len() + source;
        if size + event_size > limits::CONTROL_FRAME as usize
            && let Some(last) = frame.last()
        {
            let lsn = last.lsn;
            connection.queue_reply(&Reply::Events { lsn, events: std::mem::take(&mut frame) });
            size = EVENT_SIZE;
        }
        size += event_size;
        frame.push(event);
    }
    connection.queue_reply(&Reply::Events { lsn, events: frame });
}
