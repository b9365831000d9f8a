#![no_main]
//! Beacons of Amplitude.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("amplitude", data));
