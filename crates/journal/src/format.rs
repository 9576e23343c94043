//! The format of a journal file. No input or output.
//!
//! Numbers are big-endian. A *sum* is the first 16 bytes of a BLAKE3 hash.
//!
//! The file begins with: magic (8 bytes), format (4), id (16), salt (16 random bytes), sum of these
//! (16). Later formats keep these 60 bytes. Batches follow without gaps:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic; its first byte occurs in no path |
//! | 4 | length of the payload |
//! | 4 | number of changes in it |
//! | 8 | offset of this batch in the file |
//! | 16 | timeline: random, the same in all batches of one process |
//! | 16 | sum of the 40 bytes before and the payload |
//! | 16 | sum of the 56 bytes before |
//! | length | payload: the changes in the protocol's encoding. A change of it is a new format |
//! | 32 | chain: BLAKE3 of the chain before, length, changes, payload |
//!
//! The sums of batches are keyed with the file's header, and so with its salt. A file system may
//! leave bytes of another file in a torn batch; these are never taken for a batch of this file. A
//! batch is recognized without the batches before it. The chain ties it to all of them. The chain
//! begins with the id, not the salt, so the same batches have the same chain in every file.

use relais_proto::{Decoder, Encoder};

/// Cap on the changes of one batch.
pub(super) const BATCH_CHANGES: usize = 4096;
/// Cap on the encoded changes of one batch: 16 MiB.
pub(super) const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Version of journal and snapshot. 3: properties, locks and SHA-256 hashes.
pub(super) const FORMAT: u32 = 3;
pub(super) const FILE_HEADER: usize = 60;
pub(super) const BATCH_HEADER: usize = 72;
pub(super) const CHAIN: usize = 32;
/// Length of the longest batch in bytes.
pub(super) const LONGEST: u64 = (BATCH_HEADER + BATCH_BYTES + CHAIN) as u64;
pub(super) const BATCH_MAGIC: [u8; 8] = *b"\xff\xfebatch\n";
const FILE_MAGIC: [u8; 8] = *b"\xffrelais\n";
const SUM: usize = 16;

/// A chain hash over batches.
pub(super) type Chain = [u8; CHAIN];

fn sum(mut hasher: blake3::Hasher, parts: &[&[u8]]) -> [u8; SUM] {
    for part in parts {
        hasher.update(part);
    }
    let mut sum = [0; SUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// The header of a journal file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileHeader {
    pub format: u32,
    pub id: [u8; 16],
    pub salt: [u8; 16],
}

impl FileHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_HEADER);
        Encoder::new(&mut bytes)
            .bytes(&FILE_MAGIC)
            .u32(self.format)
            .bytes(&self.id)
            .bytes(&self.salt);
        let sum = sum(blake3::Hasher::new(), &[&bytes]);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Parses a header; none if its sum or its magic is wrong.
    pub fn parse(bytes: &[u8; FILE_HEADER]) -> Option<Self> {
        let mut from = Decoder::new(bytes.strip_prefix(&FILE_MAGIC)?);
        let header =
            Self { format: from.u32().ok()?, id: from.array().ok()?, salt: from.array().ok()? };
        (header.encode() == bytes).then_some(header)
    }

    /// The key for the sums of batches in this file.
    pub fn key(&self) -> BatchKey {
        BatchKey(blake3::derive_key("relais journal batch 1", &self.encode()))
    }

    /// The chain before the first batch.
    pub fn chain(&self) -> Chain {
        blake3::derive_key("relais journal chain 1", &self.id)
    }
}

/// The key that computes and checks the sums of one file's batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchKey([u8; 32]);

impl BatchKey {
    fn sum(&self, parts: &[&[u8]]) -> [u8; SUM] {
        sum(blake3::Hasher::new_keyed(&self.0), parts)
    }

    /// Parses the header at the start of `bytes`; none if it is no batch header for `position`.
    pub fn parse(&self, bytes: &[u8], position: u64) -> Option<BatchHeader> {
        let (summed, sum) = bytes.get(..BATCH_HEADER)?.split_at(BATCH_HEADER - SUM);
        let mut from = Decoder::new(summed.strip_prefix(&BATCH_MAGIC)?);
        let fields = BatchHeader {
            len: from.u32().ok()?,
            count: from.u32().ok()?,
            position: from.u64().ok()?,
            timeline: from.array().ok()?,
            body: from.array().ok()?,
        };
        let fits = fields.len as usize <= BATCH_BYTES && fields.position == position;
        (fits && self.sum(&[summed]) == sum).then_some(fields)
    }

    /// Whether the payload matches the sum in this header.
    pub fn fits(&self, header: &BatchHeader, payload: &[u8]) -> bool {
        self.sum(&[&header.fields(), payload]) == header.body
    }

    /// Completes a batch in place: fills in the header, appends the chain, and returns the chain.
    ///
    /// `buffer` has space for the header, then the payload.
    pub fn seal(
        &self,
        buffer: &mut Vec<u8>,
        len: u32,
        count: u32,
        position: u64,
        timeline: [u8; 16],
        before: &Chain,
    ) -> Chain {
        let mut header = BatchHeader { len, count, position, timeline, body: [0; SUM] };
        let (head, payload) = buffer.split_at_mut(BATCH_HEADER);
        header.body = self.sum(&[&header.fields(), payload]);
        let chain = header.chain(before, payload);
        let (summed, sum) = head.split_at_mut(BATCH_HEADER - SUM);
        let (fields, body) = summed.split_at_mut(BATCH_HEADER - 2 * SUM);
        fields.copy_from_slice(&header.fields());
        body.copy_from_slice(&header.body);
        sum.copy_from_slice(&self.sum(&[summed]));
        buffer.extend_from_slice(&chain);
        chain
    }
}

/// The header of a batch.
#[derive(Debug)]
pub(super) struct BatchHeader {
    pub len: u32,
    pub count: u32,
    position: u64,
    /// The timeline of the process that wrote it.
    pub timeline: [u8; 16],
    body: [u8; SUM],
}

impl BatchHeader {
    /// The encoded fields before the sums.
    fn fields(&self) -> [u8; BATCH_HEADER - 2 * SUM] {
        let mut bytes = [0; BATCH_HEADER - 2 * SUM];
        bytes[..8].copy_from_slice(&BATCH_MAGIC);
        bytes[8..12].copy_from_slice(&self.len.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.position.to_be_bytes());
        bytes[24..].copy_from_slice(&self.timeline);
        bytes
    }

    /// The chain after this batch.
    pub fn chain(&self, before: &Chain, payload: &[u8]) -> Chain {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(before)
            .update(&self.len.to_be_bytes())
            .update(&self.count.to_be_bytes())
            .update(payload);
        *hasher.finalize().as_bytes()
    }

    /// Length of the whole batch in bytes.
    pub fn total(&self) -> u64 {
        (BATCH_HEADER + CHAIN) as u64 + u64::from(self.len)
    }
}
