//! Gets pieces of content, and verifies each against values that the content's digest proves.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use relais_net::Connection;
use relais_proto::{Digest, ErrorCode, Refusal, WaitReason, limits};
use relais_transfer::Fault;
use relais_transfer::download::{ask_for_pieces, piece_range};
use relais_tree::{hash_file, join, piece_count, piece_value};

use super::client_watch::ClientWatch;
use super::dialer::ReplicaDialer;
use super::wanted::WantedContent;
use super::window::PieceWindow;

/// What is needed of another slave, or of the file if the content has come here.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The values of all pieces.
    Prove,
    /// The bytes of the next piece.
    Fetch,
}

/// The pieces of one stream: their proved values, and the last one that was verified.
pub struct Pieces {
    pub wanted: WantedContent,
    /// Values of all pieces: 32 bytes for each MiB. None before they are proved.
    values: Option<Arc<[Digest]>>,
    dialer: Arc<ReplicaDialer>,
    window: Option<PieceWindow>,
    /// The last verified piece.
    buffer: Vec<u8>,
    next: u64,
    /// Number of the piece behind the last one that is needed.
    end: u64,
}

impl Pieces {
    /// Begins with piece number `next`, and ends before number `end`.
    pub fn new(
        wanted: WantedContent,
        (next, end): (u64, u64),
        dialer: &Arc<ReplicaDialer>,
    ) -> Self {
        let values = match piece_count(wanted.size) {
            // The only value of content of one piece is its digest.
            1 => Some(Arc::from([wanted.digest])),
            _ => dialer.proved.get(wanted.digest),
        };
        let (dialer, buffer) = (dialer.clone(), Vec::new());
        Self { wanted, values, dialer, window: None, buffer, next, end }
    }

    /// Returns the step that has to come next; none after the last piece.
    pub fn next_step(&self) -> Option<Step> {
        let step = if self.values.is_some() { Step::Fetch } else { Step::Prove };
        (self.next < self.end).then_some(step)
    }

    /// Returns the last verified piece and the offset of its first byte.
    pub fn last(&self) -> (&[u8], u64) {
        (&self.buffer, self.next.saturating_sub(1).saturating_mul(limits::PIECE))
    }

    /// Forgets an answer that will not be read to its end.
    pub fn abandon_window(&mut self) {
        self.window = None;
    }

    /// Takes a step with another slave.
    ///
    /// # Errors
    /// A [`Fault`] of that slave, or the client has gone.
    pub fn step_at(
        &mut self,
        step: Step,
        server: &mut Connection,
        watch: &ClientWatch<'_>,
    ) -> Result<(), Fault> {
        match step {
            Step::Prove => {
                let WantedContent { path, size, digest, .. } = &self.wanted;
                let mut ask = |request: &_| watch.ask(server, request);
                let values = ask_for_pieces(&mut ask, path, *digest, piece_count(*size))?;
                self.prove(values)
            }
            Step::Fetch => {
                let mut window = self.open_window(server, watch)?;
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.resize(self.next_len(), 0);
                let read = window.read(server, &mut buffer, watch);
                (self.buffer, self.window) = (buffer, Some(window));
                read?;
                self.verify()
            }
        }
    }

    /// Takes a step with the file, which has come to this slave.
    ///
    /// # Errors
    /// The file is damaged or cannot be read, or the client has gone.
    pub fn step_here(
        &mut self,
        step: Step,
        file: &File,
        watch: &ClientWatch<'_>,
    ) -> Result<(), Fault> {
        match step {
            Step::Prove => {
                let mut progress =
                    |_| watch.during(|client| client.send_keepalive(WaitReason::Hashing));
                let (_, values) = hash_file(file, self.wanted.size, &mut progress)?;
                self.prove(values)
            }
            Step::Fetch => {
                self.buffer.resize(self.next_len(), 0);
                let start = piece_range(self.next, self.wanted.size).start;
                file.read_exact_at(&mut self.buffer, start)?;
                self.verify()
            }
        }
    }

    fn next_len(&self) -> usize {
        let range = piece_range(self.next, self.wanted.size);
        // A piece is 1 MiB at most.
        usize::try_from(range.end - range.start).unwrap_or(0)
    }

    /// Returns the answer that has the next piece.
    fn open_window(
        &mut self,
        server: &mut Connection,
        watch: &ClientWatch<'_>,
    ) -> Result<PieceWindow, Fault> {
        match self.window.take() {
            Some(window) if !window.is_empty() => return Ok(window),
            Some(window) => window.finish(server, watch)?,
            None => {}
        }
        let start = piece_range(self.next, self.wanted.size).start;
        let end = piece_range(self.end.saturating_sub(1), self.wanted.size).end;
        PieceWindow::open(server, &self.wanted, (start, end), watch)
    }

    fn prove(&mut self, values: Vec<Digest>) -> Result<(), Fault> {
        if join(&values, self.wanted.size) != Some(self.wanted.digest) {
            return Err(damaged("the content there does not have its digest"));
        }
        let values = values.into();
        self.dialer.proved.keep(self.wanted.digest, &values);
        self.values = Some(values);
        Ok(())
    }

    /// Checks the piece in the buffer, and counts it.
    fn verify(&mut self) -> Result<(), Fault> {
        let value = piece_value(self.wanted.size, self.next, &self.buffer);
        let at = usize::try_from(self.next).unwrap_or(usize::MAX);
        let proved = self.values.as_ref().and_then(|values| values.get(at));
        if value.is_none() || value.as_ref() != proved {
            return Err(damaged("a piece of the content there is damaged"));
        }
        self.next += 1;
        Ok(())
    }
}

fn damaged(why: &str) -> Fault {
    Fault::Refused(Refusal::new(ErrorCode::Damaged, why))
}
