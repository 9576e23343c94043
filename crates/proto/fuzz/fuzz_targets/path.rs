//! Feeds libFuzzer's inputs to the checks for a path as bytes. Must hold nothing else.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relais_fuzz::path(data));
