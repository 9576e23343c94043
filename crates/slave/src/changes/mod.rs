//! Changes to the tree, from the proposal of a session to the folder on the disk.
//!
//! A worker stages content, sends each proposal to the replicator over a channel, and waits for the
//! result. The replicator handles all waiting proposals together: it syncs the staged content, has
//! the changes numbered by the coordinator (`replication`), applies them in batches (`apply`),
//! records them in the catalogue, and answers. Only its catalogue writer does this, so no other
//! thread renames, removes or creates anything in the folder.

pub mod channel;
pub mod handoff;
pub mod proposal_receiver;

use relais_proto::{Decoder, Encoder, Lsn, Refusal, Wire, WireError, limits};
use relais_storage::{CommitReceipt, Proposal, ProposalResult};

/// A request of a session to the replicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelRequest {
    /// Make a change. The answer is a [`ProposalResult`].
    Change(Proposal),
    /// List the folders that hold the content of a put. The answer is their ids.
    Holders(Lsn),
}

impl ChannelRequest {
    /// Encodes a proposal for the channel.
    #[must_use]
    pub fn change(proposal: &Proposal) -> Vec<u8> {
        let mut bytes = vec![CHANGE];
        proposal.encode(&mut Encoder::new(&mut bytes));
        bytes
    }

    /// Encodes a holders request for the channel.
    #[must_use]
    pub fn holders(put: Lsn) -> Vec<u8> {
        let mut bytes = vec![HOLDERS];
        put.encode(&mut Encoder::new(&mut bytes));
        bytes
    }

    /// Decodes a message of the channel.
    ///
    /// # Errors
    /// Returns a [`WireError`] for malformed bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(bytes);
        let request = match from.u8()? {
            CHANGE => Self::Change(Wire::decode(&mut from)?),
            HOLDERS => Self::Holders(Wire::decode(&mut from)?),
            other => return Err(WireError::BadValue { what: "question", value: other.into() }),
        };
        from.finish()?;
        Ok(request)
    }
}

/// First byte of each request.
const CHANGE: u8 = 0;
const HOLDERS: u8 = 1;

/// Encodes a result for the channel.
#[must_use]
pub fn encode_result(answer: &ProposalResult) -> Vec<u8> {
    let mut bytes = Vec::new();
    let to = &mut Encoder::new(&mut bytes);
    match answer {
        Ok(receipt) => receipt.encode(to.bool(true)),
        Err(refusal) => {
            refusal.encode(to.bool(false));
            // All pending results must fit into the socket. The client knows which path it asked
            // for.
            let room = limits::TEXT.saturating_sub(refusal.message.len());
            let path = refusal.path.as_ref().filter(|path| path.as_str().len() <= room);
            to.option(path, Wire::encode);
        }
    }
    bytes
}

/// Decodes a result from the channel.
///
/// # Errors
/// Returns a [`WireError`] for malformed bytes.
pub fn decode_result(bytes: &[u8]) -> Result<ProposalResult, WireError> {
    let mut from = Decoder::new(bytes);
    let answer = if from.bool()? {
        Ok(CommitReceipt::decode(&mut from)?)
    } else {
        let refusal = Refusal::decode(&mut from)?;
        Err(Refusal { path: from.option()?, ..refusal })
    };
    from.finish()?;
    Ok(answer)
}
