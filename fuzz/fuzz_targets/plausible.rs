#![no_main]
//! Beacons of Plausible.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("plausible", data));
