//! Proposals that reach a slave as those of a session do, for changes that no client of the tests
//! can make.

use std::path::Path;
use std::time::Instant;

use relais_os::{MessageSocket, Received};
use relais_proto::{Change, Decoder, Encoder, Lsn, Refusal, Wire};
use relais_storage::{Proposal, ProposalResult};

use super::{SOON, new_id};

/// Has the slave that serves `root` make a change; returns its number. All such changes are of one
/// account.
///
/// # Errors
/// The refusal.
#[track_caller]
pub fn propose(root: &Path, change: Change) -> Result<Lsn, Refusal> {
    let socket = MessageSocket::connect(&root.join(".relais/writer.socket")).unwrap();
    socket.send(b"tests", None).unwrap();
    let mut buffer = vec![0; 16 * 1024];
    receive(&socket, &mut buffer);
    let (mut bytes, mut id) = (Vec::new(), new_id());
    id.0[..4].copy_from_slice(&[9; 4]);
    // The number of the request for a change.
    Proposal::new(id, change).encode(Encoder::new(&mut bytes).u8(0));
    socket.send(&bytes, None).unwrap();
    let answer = receive(&socket, &mut buffer);
    let result = ProposalResult::decode(&mut Decoder::new(answer)).unwrap();
    result.map(|receipt| receipt.version)
}

#[track_caller]
fn receive<'a>(socket: &MessageSocket, buffer: &'a mut [u8]) -> &'a [u8] {
    let began = Instant::now();
    loop {
        if let Received::Message((bytes, _)) = socket.receive(buffer).unwrap() {
            let length = bytes.len();
            return &buffer[..length];
        }
        assert!(began.elapsed() < SOON, "the replicator sends nothing");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
