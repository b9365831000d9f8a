#![no_main]
//! Beacons of Segment.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("segment", data));
