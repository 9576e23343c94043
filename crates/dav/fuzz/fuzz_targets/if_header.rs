//! Feeds libFuzzer's inputs to the checks for headers. Must hold nothing else.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relais_dav_fuzz::if_header(data));
