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

use relais_proto::{
    Change, ChangeId, Decoder, Digest, Encoder, ErrorCode, Expect, Lsn, Refusal, Wire, WireError,
    limits,
};
use relais_storage::{CommitReceipt, Proposal, ProposalResult, StagedName};

/// Decodes a proposal, without the first byte of the message.
fn decode_proposal(bytes: &[u8]) -> Result<Proposal, WireError> {
    let mut from = Decoder::new(bytes);
    let bad = WireError::BadValue { what: "staged name", value: 0 };
    let proposal = Proposal {
        id: ChangeId::decode(&mut from)?,
        change: Change::decode(&mut from)?,
        expect: Expect::decode(&mut from)?,
        keep_mode: from.bool()?,
        staged: match from.bool()? {
            true => Some(
                StagedName::parse(from.short_text("staged name", limits::NAME_PART)?).ok_or(bad)?,
            ),
            false => None,
        },
        synced: from.bool()?,
        copies: from.u16()?,
    };
    from.finish()?;
    Ok(proposal)
}

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
        let to = &mut Encoder::new(&mut bytes);
        proposal.id.encode(to);
        proposal.change.encode(to);
        proposal.expect.encode(to);
        to.bool(proposal.keep_mode);
        to.option(proposal.staged.as_ref(), |name, to| {
            to.short_text(&name.to_string());
        })
        .bool(proposal.synced)
        .u16(proposal.copies);
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
        match bytes.split_first() {
            Some((&CHANGE, proposal)) => decode_proposal(proposal).map(Self::Change),
            Some((&HOLDERS, put)) => {
                let mut from = Decoder::new(put);
                let put = Lsn::decode(&mut from)?;
                from.finish()?;
                Ok(Self::Holders(put))
            }
            Some((other, _)) => {
                Err(WireError::BadValue { what: "question", value: (*other).into() })
            }
            None => Err(WireError::Short),
        }
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
        Ok(CommitReceipt { version, copies, digest, fresh }) => {
            version.encode(to.bool(true));
            to.u16(*copies).option(digest.as_ref(), Digest::encode).bool(*fresh);
        }
        Err(refusal) => {
            to.bool(false).u16(refusal.code.number()).message(&refusal.message);
            // All pending results must fit into the socket. The client knows which path it asked
            // for.
            let room = limits::TEXT.saturating_sub(refusal.message.len());
            let path = refusal.path.as_ref().filter(|path| path.as_str().len() <= room);
            to.option(path, |path, to| {
                to.path(path);
            });
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
        Ok(CommitReceipt {
            version: Lsn::decode(&mut from)?,
            copies: from.u16()?,
            digest: from.option()?,
            fresh: from.bool()?,
        })
    } else {
        let number = from.u16()?;
        let code = ErrorCode::from_number(number)
            .ok_or(WireError::BadValue { what: "error code", value: number.into() })?;
        let message = from.short_text("message", limits::TEXT)?;
        let path = if from.bool()? { Some(from.path()?) } else { None };
        Err(Refusal { path, ..Refusal::new(code, message) })
    };
    from.finish()?;
    Ok(answer)
}
