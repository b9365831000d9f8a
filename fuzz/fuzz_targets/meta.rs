#![no_main]
//! Beacons of Meta.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("meta", data));
