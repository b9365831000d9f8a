#![no_main]
//! Beacons of Mixpanel.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("mixpanel", data));
