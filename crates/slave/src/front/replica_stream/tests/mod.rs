//! Streams from fake slaves: what they need of the catalogue and the client, and one run.

mod failures;
mod holder;
mod ranges;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_auth::ClusterKey;
use relais_engine::KeepAlive;
use relais_net::tls::{Dialer, TlsMode};
use relais_proto::{Digest, Lsn, PeerSlave, Refusal, SlaveId, TreePath, WaitReason, limits};
use relais_transfer::Failover;

use self::holder::{Holder, KEY};
use super::dialer::ReplicaDialer;
use super::holders::{HolderLookup, Holders};
use super::piece_reader::PieceReader;
use super::pieces::Pieces;
use super::wanted::WantedContent;

const MIB: usize = 1024 * 1024;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 253 + i * 11) % 256).unwrap()).collect()
}

fn digest_of(content: &[u8]) -> Digest {
    Digest(*blake3::hash(content).as_bytes())
}

/// The catalogue, as a test wants it.
#[derive(Default)]
struct Catalogue {
    holders: Vec<PeerSlave>,
    is_replaced: bool,
    here: Option<File>,
}

impl HolderLookup for Catalogue {
    fn holders(&self) -> Result<Vec<PeerSlave>, Refusal> {
        Ok(self.holders.clone())
    }

    fn is_current(&self) -> Result<bool, Refusal> {
        Ok(!self.is_replaced)
    }

    fn open_here(&self, _: &mut dyn KeepAlive) -> Result<Option<File>, Refusal> {
        Ok(self.here.as_ref().map(|file| file.try_clone().unwrap()))
    }
}

/// A client that goes at a time.
struct Client(Option<Instant>);

impl KeepAlive for Client {
    fn send_keepalive(&mut self, _: WaitReason) -> io::Result<()> {
        match self.0 {
            Some(goes) if Instant::now() >= goes => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Ok(()),
        }
    }
}

struct Run {
    catalogue: Catalogue,
    client: Client,
    reader: PieceReader,
    received: Vec<u8>,
    dialer: Arc<ReplicaDialer>,
}

impl Run {
    /// Reads pieces `from..to` of `content` from these slaves.
    fn of(content: &[u8], holders: &[&Holder], pieces: (u64, u64)) -> Self {
        let key = || Some(ClusterKey::from_bytes(KEY));
        let dialer = Dialer::new(TlsMode::Never).unwrap();
        let dialer = ReplicaDialer::with_key(dialer, SlaveId([99; 16]), key);
        Self::with_dialer(content, holders, pieces, Arc::new(dialer))
    }

    /// As [`Self::of`], in a worker with other streams.
    fn with_dialer(
        content: &[u8],
        holders: &[&Holder],
        pieces: (u64, u64),
        dialer: Arc<ReplicaDialer>,
    ) -> Self {
        let wanted = WantedContent {
            path: TreePath::new("a/x").unwrap(),
            size: content.len() as u64,
            digest: digest_of(content),
        };
        let retry = Duration::from_millis(300);
        let pieces = Pieces::new(wanted, pieces, &dialer);
        let slaves = Holders::new(dialer.clone(), Lsn::default(), retry);
        Self {
            catalogue: Catalogue {
                holders: holders.iter().map(|holder| holder.peer.clone()).collect(),
                ..Catalogue::default()
            },
            client: Client(None),
            reader: PieceReader::new(pieces, slaves, Failover::new(retry)),
            received: Vec::new(),
            dialer,
        }
    }

    fn whole(content: &[u8], holders: &[&Holder]) -> Self {
        Self::of(content, holders, (0, (content.len() as u64).div_ceil(limits::PIECE)))
    }

    /// Reads one piece; false at the end.
    fn next(&mut self) -> Result<bool, Refusal> {
        let advanced = self.reader.advance(&self.catalogue, &mut self.client)?;
        if advanced {
            self.received.extend_from_slice(self.reader.last().0);
        }
        Ok(advanced)
    }

    fn rest(&mut self) -> Result<(), Refusal> {
        while self.next()? {}
        Ok(())
    }
}
