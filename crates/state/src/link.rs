//! Both ends of a cluster link's proof, as messages in and messages out.
//!
//! The side that was connected to, a master or a slave that has content, proves first that it has the key, then the side that connected
//! does. Each proof covers who proves, both ids, both fresh nonces, and what the two ends of an encrypted line have in common, so a
//! recorded one, one sent back to its sender, or one carried over by somebody in between is refused. It never touches
//! a socket: callers move the frames.

use std::io;

use relais_proto::{
    ErrorCode, FrameType, Hello, LinkMessage, Refusal, Reply, Request, Role, ServerRole, SlaveId,
    VERSIONS, WireError, common_version,
};
use thiserror::Error;

use crate::ClusterKey;
use crate::key::{LinkFacts, Prover};

/// Who opens a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRole {
    /// A slave to its master, by its own id.
    Slave,
    /// An operator's command to a master, by a random id.
    Operator,
    /// A slave to another one, to take content from it; by its own id.
    Peer,
}

impl LinkRole {
    fn hello(self) -> Role {
        match self {
            Self::Slave => Role::Slave,
            Self::Operator => Role::Operator,
            Self::Peer => Role::Peer,
        }
    }

    /// As what it proves the key.
    fn prover(self) -> Prover {
        match self {
            Self::Slave => Prover::Slave,
            Self::Operator => Prover::Operator,
            Self::Peer => Prover::Taker,
        }
    }

    /// As what the other side proves it.
    fn other(self) -> Prover {
        match self {
            Self::Slave | Self::Operator => Prover::Master,
            Self::Peer => Prover::Holder,
        }
    }

    /// What the other side has to be.
    fn server(self) -> ServerRole {
        match self {
            Self::Slave | Self::Operator => ServerRole::Master,
            Self::Peer => ServerRole::Slave,
        }
    }
}

/// Why a link did not come about.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The other side does not have our key.
    #[error("the other side does not have the key of this cluster")]
    BadProof,
    /// The other side is no master, or no slave, where one was wanted.
    #[error("that server is not a {}", match .0 { ServerRole::Master => "master", _ => "slave of a cluster" })]
    Stranger(ServerRole),
    /// The other side refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The other side broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl LinkError {
    /// What the other side is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            Self::BadProof | Self::Stranger(_) => ErrorCode::BadProof,
            Self::Refused(refusal) => return refusal.clone(),
            Self::Wire(_) => ErrorCode::BadRequest,
        };
        Refusal::new(code, self.to_string())
    }
}

/// Reads a frame of a link that stands: a message, or the other side's error.
///
/// # Errors
/// [`LinkError::Refused`] with what the other side says, or what is wrong with the frame.
pub fn decode_link_frame(kind: FrameType, payload: &[u8]) -> Result<LinkMessage, LinkError> {
    match kind {
        FrameType::Error => match Reply::decode(kind, payload)? {
            Reply::Error(refusal) => Err(LinkError::Refused(refusal)),
            other => Err(WireError::Unexpected(other.frame_type().number()).into()),
        },
        _ => Ok(LinkMessage::decode(kind, payload)?),
    }
}

/// The side that connects. Send [`Self::hello`] and [`Self::open`] together,
/// then give every frame that comes to [`Self::on_frame`] until it yields the proof to send.
#[derive(Debug)]
pub struct LinkHandshake<'a> {
    role: LinkRole,
    id: SlaveId,
    key: &'a ClusterKey,
    nonce: [u8; 32],
    binding: Option<[u8; 32]>,
    welcomed: bool,
}

impl<'a> LinkHandshake<'a> {
    /// Begins with a fresh nonce. `binding` is what both ends of the line have in common where that is encrypted.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn new(
        role: LinkRole,
        id: SlaveId,
        key: &'a ClusterKey,
        binding: Option<[u8; 32]>,
    ) -> io::Result<Self> {
        Ok(Self { role, id, key, nonce: crate::random()?, binding, welcomed: false })
    }

    /// The first message; `agent` is program and version, for the other side's log.
    #[must_use]
    pub fn hello(&self, agent: impl Into<String>) -> Request {
        Request::Hello(Hello { role: self.role.hello(), versions: VERSIONS, agent: agent.into() })
    }

    /// The second message, sent right behind the first.
    #[must_use]
    pub fn open(&self) -> LinkMessage {
        LinkMessage::LinkOpen { id: self.id, nonce: self.nonce }
    }

    /// Takes a frame from the other side. None: read the next one. Some: it
    /// has proved that it has the key, and this is our proof to send;
    /// what we want may follow it at once.
    ///
    /// # Errors
    /// Why there is no link.
    pub fn on_frame(
        &mut self,
        kind: FrameType,
        payload: &[u8],
    ) -> Result<Option<LinkMessage>, LinkError> {
        match kind {
            FrameType::Welcome | FrameType::Error => {
                self.reply(&Reply::decode(kind, payload)?).map(|()| None)
            }
            FrameType::LinkChallenge if self.welcomed => {
                self.answer(&LinkMessage::decode(kind, payload)?).map(Some)
            }
            other => Err(WireError::Unexpected(other.number()).into()),
        }
    }

    /// Takes `Welcome` or an error.
    ///
    /// # Errors
    /// [`LinkError::Refused`], or that it is another kind of server or of another version.
    fn reply(&mut self, reply: &Reply) -> Result<(), LinkError> {
        match reply {
            Reply::Welcome { role, .. } if *role != self.role.server() => {
                Err(LinkError::Stranger(self.role.server()))
            }
            Reply::Welcome { version, .. } if !self.welcomed => {
                common_version(VERSIONS, (*version, *version))?;
                self.welcomed = true;
                Ok(())
            }
            Reply::Error(refusal) => Err(LinkError::Refused(refusal.clone())),
            other => Err(WireError::Unexpected(other.frame_type().number()).into()),
        }
    }

    /// Checks the challenge; yields our proof.
    ///
    /// # Errors
    /// [`LinkError::BadProof`] where the other side does not have our key.
    pub fn answer(&self, challenge: &LinkMessage) -> Result<LinkMessage, LinkError> {
        let LinkMessage::LinkChallenge { cluster, nonce, proof } = challenge else {
            return Err(WireError::Unexpected(challenge.frame_type().number()).into());
        };
        let facts = LinkFacts {
            id: self.id,
            cluster: self.key.cluster_id(),
            theirs: self.nonce,
            ours: *nonce,
            binding: self.binding,
        };
        if *cluster != facts.cluster || !self.key.verify(proof, self.role.other(), &facts) {
            return Err(LinkError::BadProof);
        }
        Ok(LinkMessage::LinkProof { proof: self.key.link_proof(self.role.prover(), &facts) })
    }
}

/// The side that was connected to: made from the peer's `LinkOpen`, it has sent the
/// challenge and waits for the proof.
#[derive(Debug, Clone)]
pub struct LinkChallenger {
    role: LinkRole,
    facts: LinkFacts,
}

impl LinkChallenger {
    /// Answers a `LinkOpen` of somebody who wants to be `role` with the challenge to send. `binding` is as in [`LinkHandshake::new`].
    ///
    /// # Errors
    /// [`LinkError::Wire`] where `open` is another message or the system has no random bytes.
    pub fn new(
        role: LinkRole,
        open: &LinkMessage,
        key: &ClusterKey,
        binding: Option<[u8; 32]>,
    ) -> Result<(Self, LinkMessage), LinkError> {
        let LinkMessage::LinkOpen { id, nonce } = open else {
            return Err(WireError::Unexpected(open.frame_type().number()).into());
        };
        let ours = crate::random().map_err(WireError::Io)?;
        let facts = LinkFacts { id: *id, cluster: key.cluster_id(), theirs: *nonce, ours, binding };
        let proof = key.link_proof(role.other(), &facts);
        let challenge = LinkMessage::LinkChallenge { cluster: facts.cluster, nonce: ours, proof };
        Ok((Self { role, facts }, challenge))
    }

    /// Who claims to be on the other side.
    #[must_use]
    pub fn id(&self) -> SlaveId {
        self.facts.id
    }

    /// Checks the other side's proof.
    ///
    /// # Errors
    /// [`LinkError::BadProof`], or [`LinkError::Wire`] where it is another message.
    pub fn check(&self, proof: &LinkMessage, key: &ClusterKey) -> Result<(), LinkError> {
        let LinkMessage::LinkProof { proof } = proof else {
            return Err(WireError::Unexpected(proof.frame_type().number()).into());
        };
        if key.verify(proof, self.role.prover(), &self.facts) {
            Ok(())
        } else {
            Err(LinkError::BadProof)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SlaveId = SlaveId([5; 16]);

    fn keys() -> (tempfile::TempDir, ClusterKey, ClusterKey) {
        let temp = tempfile::tempdir().unwrap();
        let key = ClusterKey::load_or_create(&temp.path().join("a")).unwrap();
        let other = ClusterKey::load_or_create(&temp.path().join("b")).unwrap();
        (temp, key, other)
    }

    #[test]
    fn two_who_have_the_key_agree() {
        let (_temp, key, _) = keys();
        for role in [LinkRole::Slave, LinkRole::Operator, LinkRole::Peer] {
            let slave = LinkHandshake::new(role, ID, &key, None).unwrap();
            let (master, challenge) = LinkChallenger::new(role, &slave.open(), &key, None).unwrap();
            master.check(&slave.answer(&challenge).unwrap(), &key).unwrap();
            assert_eq!(master.id(), ID);
        }
    }

    #[test]
    fn either_side_notices_another_key() {
        let (_temp, key, other) = keys();
        let slave = LinkHandshake::new(LinkRole::Slave, ID, &key, None).unwrap();
        let (_, challenge) =
            LinkChallenger::new(LinkRole::Slave, &slave.open(), &other, None).unwrap();
        assert!(matches!(slave.answer(&challenge), Err(LinkError::BadProof)));

        let (master, challenge) =
            LinkChallenger::new(LinkRole::Slave, &slave.open(), &key, None).unwrap();
        let LinkMessage::LinkChallenge { nonce, .. } = challenge else { panic!("no challenge") };
        let facts = LinkFacts {
            id: ID,
            cluster: key.cluster_id(),
            theirs: slave.nonce,
            ours: nonce,
            binding: None,
        };
        let proof = other.link_proof(Prover::Slave, &facts);
        assert!(matches!(
            master.check(&LinkMessage::LinkProof { proof }, &key),
            Err(LinkError::BadProof)
        ));
    }

    #[test]
    fn somebody_in_between_is_noticed_by_both() {
        let (_temp, key, _) = keys();
        let (near, far) = (Some([1; 32]), Some([2; 32]));
        for role in [LinkRole::Slave, LinkRole::Operator, LinkRole::Peer] {
            for (ours, theirs) in [(near, far), (near, None), (None, far)] {
                let slave = LinkHandshake::new(role, ID, &key, ours).unwrap();
                let (master, challenge) =
                    LinkChallenger::new(role, &slave.open(), &key, theirs).unwrap();
                assert!(matches!(slave.answer(&challenge), Err(LinkError::BadProof)));
                // One who does not look is noticed by the other.
                let careless = LinkHandshake {
                    binding: theirs,
                    nonce: slave.nonce,
                    ..LinkHandshake::new(role, ID, &key, ours).unwrap()
                };
                let proof = careless.answer(&challenge).unwrap();
                assert!(master.check(&proof, &key).is_ok());
                let master =
                    LinkChallenger { facts: LinkFacts { binding: ours, ..master.facts }, role };
                assert!(master.check(&proof, &key).is_err());
            }
            let slave = LinkHandshake::new(role, ID, &key, near).unwrap();
            let (master, challenge) = LinkChallenger::new(role, &slave.open(), &key, near).unwrap();
            master.check(&slave.answer(&challenge).unwrap(), &key).unwrap();
        }
    }

    #[test]
    fn a_proof_sent_back_or_recorded_is_worth_nothing() {
        let (_temp, key, _) = keys();
        let all = [LinkRole::Slave, LinkRole::Operator, LinkRole::Peer];
        for role in all {
            let ours = LinkHandshake::new(role, ID, &key, None).unwrap();
            let (theirs, challenge) = LinkChallenger::new(role, &ours.open(), &key, None).unwrap();
            let LinkMessage::LinkChallenge { proof: sent, .. } = challenge else {
                panic!("no challenge")
            };
            assert!(theirs.check(&LinkMessage::LinkProof { proof: sent }, &key).is_err());

            let recorded = ours.answer(&challenge).unwrap();
            let (later, _) = LinkChallenger::new(role, &ours.open(), &key, None).unwrap();
            assert!(later.check(&recorded, &key).is_err());
            for other in all.into_iter().filter(|other| *other != role) {
                // The same nonces, and the proof of one who is something else.
                let elsewhere = LinkChallenger { role: other, ..theirs.clone() };
                assert!(elsewhere.check(&recorded, &key).is_err(), "{role:?} as {other:?}");
            }
            let again = LinkHandshake::new(role, ID, &key, None).unwrap();
            assert!(again.answer(&challenge).is_err());
        }
    }

    #[test]
    fn a_master_is_no_slave_to_take_content_from() {
        let (_temp, key, _) = keys();
        let mut taker = LinkHandshake::new(LinkRole::Peer, ID, &key, None).unwrap();
        let welcome = |role| Reply::Welcome {
            version: 1,
            role,
            cluster: key.cluster_id(),
            agent: String::new(),
        };
        for other in [ServerRole::Master, ServerRole::Standalone] {
            assert!(matches!(
                taker.reply(&welcome(other)),
                Err(LinkError::Stranger(ServerRole::Slave))
            ));
        }
        taker.reply(&welcome(ServerRole::Slave)).unwrap();
        // The challenge of a master that has the key is none of a slave.
        let (_, challenge) =
            LinkChallenger::new(LinkRole::Slave, &taker.open(), &key, None).unwrap();
        assert!(matches!(taker.answer(&challenge), Err(LinkError::BadProof)));
    }

    #[test]
    fn frames_are_taken_in_their_order_only() {
        let (_temp, key, _) = keys();
        let mut slave = LinkHandshake::new(LinkRole::Slave, ID, &key, None).unwrap();
        let (_, challenge) =
            LinkChallenger::new(LinkRole::Slave, &slave.open(), &key, None).unwrap();
        let payload = |encode: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = Vec::new();
            encode(&mut frame);
            frame.split_off(relais_proto::HEADER_LEN)
        };
        let challenge = payload(&|to| challenge.encode(to));
        let welcome = |role| {
            let welcome = Reply::Welcome {
                version: 1,
                role,
                cluster: key.cluster_id(),
                agent: String::new(),
            };
            payload(&|to| welcome.encode(to))
        };
        assert!(slave.on_frame(FrameType::LinkChallenge, &challenge).is_err());
        assert!(matches!(
            slave.on_frame(FrameType::Welcome, &welcome(ServerRole::Standalone)),
            Err(LinkError::Stranger(ServerRole::Master))
        ));
        assert!(
            slave.on_frame(FrameType::Welcome, &welcome(ServerRole::Master)).unwrap().is_none()
        );
        assert!(slave.on_frame(FrameType::Welcome, &welcome(ServerRole::Master)).is_err());
        assert!(slave.on_frame(FrameType::LinkChallenge, &challenge[1..]).is_err());
        assert!(slave.on_frame(FrameType::LinkChallenge, &challenge).unwrap().is_some());
        assert!(slave.on_frame(FrameType::Pong, &[]).is_err());
        let error = payload(&|to| Reply::Error(Refusal::new(ErrorCode::Busy, "full")).encode(to));
        assert!(matches!(decode_link_frame(FrameType::Error, &error), Err(LinkError::Refused(_))));
        assert!(matches!(decode_link_frame(FrameType::AskReport, &[]), Ok(LinkMessage::AskReport)));
        assert!(
            matches!(slave.on_frame(FrameType::Error, &error), Err(LinkError::Refused(r)) if r.code == ErrorCode::Busy)
        );
    }
}
