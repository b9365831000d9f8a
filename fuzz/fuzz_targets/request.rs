#![no_main]
//! Whole requests: every route and format, in every encoding.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::request(data));
