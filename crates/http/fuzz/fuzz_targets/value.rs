//! Feeds libFuzzer's inputs to the checks of the same name. Must hold nothing else.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relais_http_fuzz::value(data));
