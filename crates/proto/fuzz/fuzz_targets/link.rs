//! Feeds libFuzzer's inputs to the checks for one message of a cluster link. Must hold nothing
//! else.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relais_fuzz::link(data));
