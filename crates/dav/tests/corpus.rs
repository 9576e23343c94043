//! Runs the corpus of the fuzz targets, and inputs made from it, on a stable compiler.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;

#[path = "../fuzz/src/lib.rs"]
mod checks;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(folder).unwrap();
    let files: Vec<_> =
        entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(files.len() > 3);
    files
}

/// Cuts a piece out of one seed and puts a piece of another one there.
fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let seed = proptest::sample::select(corpus(target));
    let index = any::<Index>;
    let places = (index(), index(), index(), index());
    let byte = proptest::option::of((index(), any::<u8>()));
    (seed.clone(), seed, places, byte).prop_map(|(to, from, (a, b, c, d), byte)| {
        let piece = |bytes: &[u8], a: Index, b: Index| {
            let (a, b) = (a.index(bytes.len() + 1), b.index(bytes.len() + 1));
            a.min(b)..a.max(b)
        };
        let (cut, inserted) = (piece(&to, a, b), piece(&from, c, d));
        let mut out = [&to[..cut.start], &from[inserted], &to[cut.end..]].concat();
        if let Some((at, byte)) = byte.filter(|_| !out.is_empty()) {
            let at = at.index(out.len());
            out[at] = byte;
        }
        out
    })
}

#[test]
fn the_corpus_holds() {
    corpus("propfind").iter().for_each(|data| checks::propfind(data));
    corpus("if_header").iter().for_each(|data| checks::if_header(data));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn mutated_bodies_hold(data in mutated("propfind")) {
        checks::propfind(&data);
    }

    #[test]
    fn mutated_headers_hold(data in mutated("if_header")) {
        checks::if_header(&data);
    }
}

#[test]
fn hostile_bodies_take_linear_time() {
    let wide: String = (0..100_000).map(|n| format!(" a{n}=''")).collect();
    for body in [
        format!("<a{wide}/>"),
        "<a>".repeat(300_000),
        format!("<a>{}</a>", "&amp;".repeat(200_000)),
        format!("<a b='{}'/>", "&lt;".repeat(250_000)),
        format!("<a xmlns='{}'>{}</a>", "n".repeat(1000), "<b/>".repeat(250_000)),
        format!("<!--{}", "-".repeat(1_000_000)),
    ] {
        let began = Instant::now();
        checks::propfind(body.as_bytes());
        assert!(began.elapsed() < Duration::from_secs(5), "{}", &body[..20]);
    }
}
