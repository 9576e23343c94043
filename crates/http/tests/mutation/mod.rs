//! Inputs for the parsers of `relais-http` and `relais-dav`: the seeds of the fuzz targets, and
//! what is made from them.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

/// Returns the seeds of a fuzz target of the crate that is tested.
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(folder).unwrap();
    let files: Vec<_> =
        entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(files.len() > 3);
    files
}

/// Cuts a piece out of one seed, puts a piece of another one there, and changes a byte.
pub fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let seed = proptest::sample::select(corpus(target));
    let piece = |bytes: &[u8], (a, b): (Index, Index)| {
        let (a, b) = (a.index(bytes.len() + 1), b.index(bytes.len() + 1));
        a.min(b)..a.max(b)
    };
    let places = any::<((Index, Index), (Index, Index))>();
    let byte = proptest::option::of((any::<Index>(), any::<u8>()));
    (seed.clone(), seed, places, byte).prop_map(move |(to, from, (cut, inserted), byte)| {
        let (cut, inserted) = (piece(&to, cut), piece(&from, inserted));
        let mut out = [&to[..cut.start], &from[inserted], &to[cut.end..]].concat();
        if let Some((at, byte)) = byte.filter(|_| !out.is_empty()) {
            let at = at.index(out.len());
            out[at] = byte;
        }
        out
    })
}
