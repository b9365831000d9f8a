#![no_main]
//! Beacons of Matomo.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("matomo", data));
