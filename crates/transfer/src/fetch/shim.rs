//! Temporary stand-in for the piece functions of relais-tree.
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use relais_proto::{Digest, limits::PIECE};

pub(super) fn piece_value(index: u64, bytes: &[u8], alone: bool) -> Digest {
    let mut h = blake3::Hasher::new();
    if alone {
        return Digest(*h.update(bytes).finalize().as_bytes());
    }
    h.set_input_offset(index * PIECE);
    Digest(h.update(bytes).finalize_non_root())
}

fn merge(v: &[Digest]) -> [u8; 32] {
    if v.len() == 1 {
        return v[0].0;
    }
    let left = v.len().next_power_of_two() / 2;
    merge_subtrees_non_root(&merge(&v[..left]), &merge(&v[left..]), Mode::Hash)
}

pub(super) fn join(v: &[Digest]) -> Digest {
    if v.len() <= 1 {
        return v.first().copied().unwrap_or(Digest(*blake3::hash(b"").as_bytes()));
    }
    let left = v.len().next_power_of_two() / 2;
    Digest(*merge_subtrees_root(&merge(&v[..left]), &merge(&v[left..]), Mode::Hash).as_bytes())
}
