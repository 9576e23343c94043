//! Runs the corpus of the fuzz targets, and inputs made from it, on a stable compiler.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;

#[path = "../fuzz/src/lib.rs"]
mod checks;
#[path = "../../http/tests/mutation/mod.rs"]
mod mutation;

use mutation::{corpus, mutated};

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
