//! The handshake of a cluster link: both ends, as messages in and messages out.
//!
//! The listening side, a master or a slave with content, proves the cluster key first; then the
//! connecting side does. Each proof covers the role of its sender, both ids, both nonces and the
//! channel binding. So replayed, reflected and relayed proofs are rejected. This module touches no
//! socket: callers move the frames.

use std::io;

use relais_proto::{
    ErrorCode, FrameType, Hello, LinkMessage, Refusal, Reply, Request, Role, ServerRole, SlaveId,
    VERSIONS, WireError, common_version,
};
use thiserror::Error;

use crate::key::{ClusterKey, ProofContext, ProofRole};

/// The role of the side that opens a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRole {
    /// A slave to its master, by its own id.
    Slave,
    /// An operator's command to a master, by a random id.
    Operator,
    /// A slave to another one, to take content from it; by its own id.
    Peer,
}

/// What a role means for the two sides of a link.
struct RoleParts {
    /// The role in the connecting side's greeting.
    greeting: Role,
    /// What the connecting side proves the key as.
    connecting: ProofRole,
    /// What the listening side proves the key as.
    listening: ProofRole,
    /// What the listening side has to be.
    server: ServerRole,
}

impl LinkRole {
    fn parts(self) -> RoleParts {
        let (greeting, connecting, listening, server) = match self {
            Self::Slave => (Role::Slave, ProofRole::Slave, ProofRole::Master, ServerRole::Master),
            Self::Operator => {
                (Role::Operator, ProofRole::Operator, ProofRole::Master, ServerRole::Master)
            }
            Self::Peer => (Role::Peer, ProofRole::Taker, ProofRole::Holder, ServerRole::Slave),
        };
        RoleParts { greeting, connecting, listening, server }
    }
}

/// The reason why a link was not established.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The other side does not have our key.
    #[error("the other side does not have the key of this cluster")]
    BadProof,
    /// The other side is not a server of the expected role.
    #[error(
        "that server is not a {}",
        match .0 { ServerRole::Master => "master", _ => "slave of a cluster" }
    )]
    WrongServer(ServerRole),
    /// The other side refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The other side broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<LinkError> for Refusal {
    /// The refusal to send to the other side.
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Refused(refusal) => refusal,
            LinkError::Wire(error) => error.into(),
            LinkError::BadProof | LinkError::WrongServer(_) => {
                Self::new(ErrorCode::BadProof, error.to_string())
            }
        }
    }
}

/// Decodes a frame of an established link: a message, or the other side's error.
///
/// # Errors
/// [`LinkError::Refused`] with the other side's error; a malformed frame.
pub fn decode_link_frame(kind: FrameType, payload: &[u8]) -> Result<LinkMessage, LinkError> {
    match kind {
        FrameType::Error => match Reply::decode(kind, payload)? {
            Reply::Error(refusal) => Err(LinkError::Refused(refusal)),
            other => Err(WireError::Unexpected(other.frame_type().number()).into()),
        },
        _ => Ok(LinkMessage::decode(kind, payload)?),
    }
}

/// The connecting side of the handshake.
///
/// Send [`Self::hello`] and [`Self::open`] together. Then pass every frame to [`Self::on_frame`]
/// until it returns the proof to send.
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
    /// Starts a handshake with a fresh nonce. `binding` is the channel binding; none without TLS.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn new(
        role: LinkRole,
        id: SlaveId,
        key: &'a ClusterKey,
        binding: Option<[u8; 32]>,
    ) -> io::Result<Self> {
        Ok(Self { role, id, key, nonce: relais_os::random()?, binding, welcomed: false })
    }

    /// The first message. `agent` is program and version, for the other side's log.
    #[must_use]
    pub fn hello(&self, agent: impl Into<String>) -> Request {
        Request::Hello(Hello::new(self.role.parts().greeting, agent))
    }

    /// The second message, sent directly after the first.
    #[must_use]
    pub fn open(&self) -> LinkMessage {
        LinkMessage::LinkOpen { id: self.id, nonce: self.nonce }
    }

    /// Handles a frame; returns our proof when the other side has proved the key.
    ///
    /// None means that another frame is needed. The first request may follow the proof at once.
    ///
    /// # Errors
    /// The reason why the handshake failed.
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

    /// Handles `Welcome` or an error.
    ///
    /// # Errors
    /// [`LinkError::Refused`]; another role or version of the server.
    fn reply(&mut self, reply: &Reply) -> Result<(), LinkError> {
        match reply {
            Reply::Welcome { role, .. } if *role != self.role.parts().server => {
                Err(LinkError::WrongServer(self.role.parts().server))
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

    /// Checks the challenge and returns our proof.
    ///
    /// # Errors
    /// [`LinkError::BadProof`] if the other side does not have our key.
    pub fn answer(&self, challenge: &LinkMessage) -> Result<LinkMessage, LinkError> {
        let LinkMessage::LinkChallenge { cluster, nonce, proof } = challenge else {
            return Err(WireError::Unexpected(challenge.frame_type().number()).into());
        };
        let facts = ProofContext {
            id: self.id,
            cluster: self.key.cluster_id(),
            theirs: self.nonce,
            ours: *nonce,
            binding: self.binding,
        };
        let RoleParts { connecting, listening, .. } = self.role.parts();
        if *cluster != facts.cluster || self.key.link_proof(listening, &facts) != *proof {
            return Err(LinkError::BadProof);
        }
        Ok(LinkMessage::LinkProof { proof: self.key.link_proof(connecting, &facts).into() })
    }
}

/// The listening side of the handshake, from the peer's `LinkOpen` to its proof.
#[derive(Debug, Clone)]
pub struct LinkChallenger {
    role: LinkRole,
    facts: ProofContext,
}

impl LinkChallenger {
    /// Answers a peer's `LinkOpen` in the role `role`; also returns the challenge to send.
    ///
    /// `binding` is as in [`LinkHandshake::new`].
    ///
    /// # Errors
    /// [`LinkError::Wire`] if `open` is another message or the system provides no random bytes.
    pub fn new(
        role: LinkRole,
        open: &LinkMessage,
        key: &ClusterKey,
        binding: Option<[u8; 32]>,
    ) -> Result<(Self, LinkMessage), LinkError> {
        let LinkMessage::LinkOpen { id, nonce } = open else {
            return Err(WireError::Unexpected(open.frame_type().number()).into());
        };
        let ours = relais_os::random().map_err(WireError::Io)?;
        let facts =
            ProofContext { id: *id, cluster: key.cluster_id(), theirs: *nonce, ours, binding };
        let proof = key.link_proof(role.parts().listening, &facts).into();
        let challenge = LinkMessage::LinkChallenge { cluster: facts.cluster, nonce: ours, proof };
        Ok((Self { role, facts }, challenge))
    }

    /// The id that the peer claims.
    #[must_use]
    pub fn id(&self) -> SlaveId {
        self.facts.id
    }

    /// Checks the peer's proof.
    ///
    /// # Errors
    /// [`LinkError::BadProof`]; [`LinkError::Wire`] if `proof` is another message.
    pub fn check(&self, proof: &LinkMessage, key: &ClusterKey) -> Result<(), LinkError> {
        let LinkMessage::LinkProof { proof } = proof else {
            return Err(WireError::Unexpected(proof.frame_type().number()).into());
        };
        if key.link_proof(self.role.parts().connecting, &self.facts) == *proof {
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
    fn two_sides_with_the_key_agree() {
        let (_temp, key, _) = keys();
        for role in [LinkRole::Slave, LinkRole::Operator, LinkRole::Peer] {
            let slave = LinkHandshake::new(role, ID, &key, None).unwrap();
            let (master, challenge) = LinkChallenger::new(role, &slave.open(), &key, None).unwrap();
            master.check(&slave.answer(&challenge).unwrap(), &key).unwrap();
            assert_eq!(master.id(), ID);
        }
    }

    #[test]
    fn either_side_detects_another_key() {
        let (_temp, key, other) = keys();
        let slave = LinkHandshake::new(LinkRole::Slave, ID, &key, None).unwrap();
        let (_, challenge) =
            LinkChallenger::new(LinkRole::Slave, &slave.open(), &other, None).unwrap();
        assert!(matches!(slave.answer(&challenge), Err(LinkError::BadProof)));

        let (master, challenge) =
            LinkChallenger::new(LinkRole::Slave, &slave.open(), &key, None).unwrap();
        let LinkMessage::LinkChallenge { nonce, .. } = challenge else { panic!("no challenge") };
        let facts = ProofContext {
            id: ID,
            cluster: key.cluster_id(),
            theirs: slave.nonce,
            ours: nonce,
            binding: None,
        };
        let proof = other.link_proof(ProofRole::Slave, &facts).into();
        assert!(matches!(
            master.check(&LinkMessage::LinkProof { proof }, &key),
            Err(LinkError::BadProof)
        ));
    }

    #[test]
    fn both_sides_detect_a_man_in_the_middle() {
        let (_temp, key, _) = keys();
        let (near, far) = (Some([1; 32]), Some([2; 32]));
        for role in [LinkRole::Slave, LinkRole::Operator, LinkRole::Peer] {
            for (ours, theirs) in [(near, far), (near, None), (None, far)] {
                let slave = LinkHandshake::new(role, ID, &key, ours).unwrap();
                let (master, challenge) =
                    LinkChallenger::new(role, &slave.open(), &key, theirs).unwrap();
                assert!(matches!(slave.answer(&challenge), Err(LinkError::BadProof)));
                // If one side does not check, the other side still detects it.
                let careless = LinkHandshake {
                    binding: theirs,
                    nonce: slave.nonce,
                    ..LinkHandshake::new(role, ID, &key, ours).unwrap()
                };
                let proof = careless.answer(&challenge).unwrap();
                assert!(master.check(&proof, &key).is_ok());
                let master =
                    LinkChallenger { facts: ProofContext { binding: ours, ..master.facts }, role };
                assert!(master.check(&proof, &key).is_err());
            }
            let slave = LinkHandshake::new(role, ID, &key, near).unwrap();
            let (master, challenge) = LinkChallenger::new(role, &slave.open(), &key, near).unwrap();
            master.check(&slave.answer(&challenge).unwrap(), &key).unwrap();
        }
    }

    #[test]
    fn reflected_and_replayed_proofs_are_rejected() {
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
                // The same nonces, and a proof in another role.
                let elsewhere = LinkChallenger { role: other, ..theirs.clone() };
                assert!(elsewhere.check(&recorded, &key).is_err(), "{role:?} as {other:?}");
            }
            let again = LinkHandshake::new(role, ID, &key, None).unwrap();
            assert!(again.answer(&challenge).is_err());
        }
    }

    #[test]
    fn a_taker_rejects_a_master() {
        let (_temp, key, _) = keys();
        let mut taker = LinkHandshake::new(LinkRole::Peer, ID, &key, None).unwrap();
        let welcome = |role| Reply::Welcome {
            version: 1,
            role,
            cluster: key.cluster_id(),
            capabilities: relais_proto::Capabilities::default(),
            agent: String::new(),
        };
        for other in [ServerRole::Master, ServerRole::Standalone] {
            assert!(matches!(
                taker.reply(&welcome(other)),
                Err(LinkError::WrongServer(ServerRole::Slave))
            ));
        }
        taker.reply(&welcome(ServerRole::Slave)).unwrap();
        // The challenge of a master is no challenge of a slave, even with the key.
        let (_, challenge) =
            LinkChallenger::new(LinkRole::Slave, &taker.open(), &key, None).unwrap();
        assert!(matches!(taker.answer(&challenge), Err(LinkError::BadProof)));
    }

    #[test]
    fn frames_out_of_order_are_rejected() {
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
                capabilities: relais_proto::Capabilities::default(),
                agent: String::new(),
            };
            payload(&|to| welcome.encode(to))
        };
        assert!(slave.on_frame(FrameType::LinkChallenge, &challenge).is_err());
        assert!(matches!(
            slave.on_frame(FrameType::Welcome, &welcome(ServerRole::Standalone)),
            Err(LinkError::WrongServer(ServerRole::Master))
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
        assert!(matches!(
            slave.on_frame(FrameType::Error, &error),
            Err(LinkError::Refused(r)) if r.code == ErrorCode::Busy
        ));
    }
}
