//! Both ends of the proof between two slaves, where one takes content from the other: as with the master, the side that was connected to
//! proves first.

use std::io;

use relais_proto::{
    ClusterId, FrameType, Hello, LinkMessage, Reply, Request, Role, ServerRole, SlaveId, VERSIONS, WireError, common_version,
};

use crate::{ClusterKey, LinkError, Prover};

/// The slave that connects. Send [`Self::hello`] and [`Self::open`] together, then give every frame that comes to
/// [`Self::frame`] until it yields the proof to send.
#[derive(Debug)]
pub struct PeerHandshake<'a> {
    id: SlaveId,
    key: &'a ClusterKey,
    nonce: [u8; 32],
    welcomed: bool,
}

impl<'a> PeerHandshake<'a> {
    /// Begins with a fresh nonce; `id` is the slave that connects.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn new(id: SlaveId, key: &'a ClusterKey) -> io::Result<Self> {
        Ok(Self { id, key, nonce: crate::random()?, welcomed: false })
    }

    /// The first message.
    #[must_use]
    pub fn hello(&self, agent: impl Into<String>) -> Request {
        Request::Hello(Hello { role: Role::Peer, versions: VERSIONS, agent: agent.into() })
    }

    /// The second message, sent right behind the first.
    #[must_use]
    pub fn open(&self) -> LinkMessage {
        LinkMessage::LinkOpen { id: self.id, nonce: self.nonce }
    }

    /// Takes a frame from the other slave. None: read the next one. Some: it has proved that it has the key, and this is our proof.
    ///
    /// # Errors
    /// Why nothing can be taken from it.
    pub fn frame(&mut self, kind: FrameType, payload: &[u8]) -> Result<Option<LinkMessage>, LinkError> {
        if kind != FrameType::LinkChallenge {
            return match Reply::decode(kind, payload)? {
                Reply::Welcome { role: ServerRole::Slave, version, .. } if !self.welcomed => {
                    common_version(VERSIONS, (version, version))?;
                    self.welcomed = true;
                    Ok(None)
                }
                Reply::Error(refusal) => Err(LinkError::Refused(refusal)),
                other => Err(WireError::Unexpected(other.frame_type().number()).into()),
            };
        }
        let LinkMessage::LinkChallenge { cluster, nonce, proof } = LinkMessage::decode(kind, payload)? else {
            return Err(WireError::Unexpected(kind.number()).into());
        };
        let ours = self.key.cluster_id();
        if !self.welcomed || cluster != ours || !self.key.verify(&proof, Prover::Holder, self.id, ours, &self.nonce, &nonce) {
            return Err(LinkError::BadProof);
        }
        Ok(Some(LinkMessage::LinkProof { proof: self.key.link_proof(Prover::Taker, self.id, ours, &self.nonce, &nonce) }))
    }
}

/// The slave that was connected to: made from the other's `LinkOpen`, it has sent its challenge and waits for the proof.
#[derive(Debug, Clone)]
pub struct PeerChallenger {
    id: SlaveId,
    cluster: ClusterId,
    theirs: [u8; 32],
    ours: [u8; 32],
}

impl PeerChallenger {
    /// Answers `LinkOpen` with the challenge to send.
    ///
    /// # Errors
    /// [`LinkError::Wire`] where `open` is another message or the system has no random bytes.
    pub fn new(open: &LinkMessage, key: &ClusterKey) -> Result<(Self, LinkMessage), LinkError> {
        let LinkMessage::LinkOpen { id, nonce } = open else { return Err(WireError::Unexpected(open.frame_type().number()).into()) };
        let this = Self { id: *id, cluster: key.cluster_id(), theirs: *nonce, ours: crate::random().map_err(WireError::Io)? };
        let proof = key.link_proof(Prover::Holder, this.id, this.cluster, &this.theirs, &this.ours);
        let challenge = LinkMessage::LinkChallenge { cluster: this.cluster, nonce: this.ours, proof };
        Ok((this, challenge))
    }

    /// Checks the other slave's proof; which slave it is.
    ///
    /// # Errors
    /// [`LinkError::BadProof`], or [`LinkError::Wire`] where it is another message.
    pub fn check(&self, proof: &LinkMessage, key: &ClusterKey) -> Result<SlaveId, LinkError> {
        let LinkMessage::LinkProof { proof } = proof else { return Err(WireError::Unexpected(proof.frame_type().number()).into()) };
        if key.verify(proof, Prover::Taker, self.id, self.cluster, &self.theirs, &self.ours) {
            Ok(self.id)
        } else {
            Err(LinkError::BadProof)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SlaveId = SlaveId([5; 16]);

    fn payload(message: &LinkMessage) -> Vec<u8> {
        let mut frame = Vec::new();
        message.encode(&mut frame);
        frame.split_off(relais_proto::HEADER_LEN)
    }

    fn welcomed(key: &ClusterKey) -> PeerHandshake<'_> {
        let mut taker = PeerHandshake::new(ID, key).unwrap();
        let mut frame = Vec::new();
        Reply::Welcome { version: 1, role: ServerRole::Slave, cluster: key.cluster_id(), agent: String::new() }.encode(&mut frame);
        assert!(taker.frame(FrameType::Welcome, &frame[relais_proto::HEADER_LEN..]).unwrap().is_none());
        taker
    }

    #[test]
    fn both_must_have_the_key_and_no_proof_can_be_used_again() {
        let temp = tempfile::tempdir().unwrap();
        let key = ClusterKey::load_or_create(&temp.path().join("a")).unwrap();
        let other = ClusterKey::load_or_create(&temp.path().join("b")).unwrap();
        let mut taker = welcomed(&key);
        let (holder, challenge) = PeerChallenger::new(&taker.open(), &key).unwrap();
        let proof = taker.frame(FrameType::LinkChallenge, &payload(&challenge)).unwrap().unwrap();
        assert_eq!(holder.check(&proof, &key).unwrap(), ID);
        let (later, _) = PeerChallenger::new(&taker.open(), &key).unwrap();
        assert!(matches!(later.check(&proof, &key), Err(LinkError::BadProof)), "a recorded proof");
        let LinkMessage::LinkChallenge { proof: sent_back, .. } = challenge else { panic!("no challenge") };
        assert!(holder.check(&LinkMessage::LinkProof { proof: sent_back }, &key).is_err());
        let (_, foreign) = PeerChallenger::new(&taker.open(), &other).unwrap();
        assert!(matches!(taker.frame(FrameType::LinkChallenge, &payload(&foreign)), Err(LinkError::BadProof)));
    }
}
