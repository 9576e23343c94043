//! Feeds libFuzzer's inputs to the checks for an XML body. Must hold nothing else.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relais_dav_fuzz::propfind(data));
