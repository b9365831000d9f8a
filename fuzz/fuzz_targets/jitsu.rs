#![no_main]
//! Beacons of Jitsu.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("jitsu", data));
