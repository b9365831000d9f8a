#![no_main]
//! Beacons of Umami.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("umami", data));
