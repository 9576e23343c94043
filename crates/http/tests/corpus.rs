//! Runs the corpus of the fuzz targets, and inputs made from it, on a stable compiler.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;

#[path = "../fuzz/src/lib.rs"]
mod checks;
mod mutation;

use mutation::{corpus, mutated};

#[test]
fn the_corpus_holds() {
    corpus("head").iter().for_each(|data| checks::head(data));
    corpus("value").iter().for_each(|data| checks::value(data));
    corpus("chunked").iter().for_each(|data| checks::chunked(data));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn mutated_heads_hold(data in mutated("head")) {
        checks::head(&data);
    }

    #[test]
    fn mutated_values_hold(data in mutated("value")) {
        checks::value(&data);
    }

    #[test]
    fn mutated_chunks_hold(data in mutated("chunked")) {
        checks::chunked(&data);
    }

    #[test]
    fn random_values_hold(value in "[ -~\t\u{80}-\u{2ff}]{0,60}", path in "[!-~]{0,60}") {
        for name in ["Range", "If-Match", "Accept", "Forwarded", "Cookie", "Content-Digest"] {
            checks::head(format!("GET /{path} HTTP/1.0\r\n{name}: {value}\r\n\r\n").as_bytes());
        }
    }
}

#[test]
fn hostile_heads_take_linear_time() {
    let fill = |text: &str| text.repeat(15_000 / text.len());
    for value in ["bytes=0-,", "\"a\",", "a/b;q=1,", ",", ";", "=", "%00", "for=1.2.3.4,", ":"] {
        for name in ["Range", "If-None-Match", "Accept", "Cookie", "Forwarded", "Content-Digest"] {
            let began = Instant::now();
            let value = fill(value);
            checks::head(format!("GET / HTTP/1.0\r\n{name}: {value}\r\n\r\n").as_bytes());
            assert!(began.elapsed() < Duration::from_secs(2), "{name}: {}", &value[..9]);
        }
    }
}
