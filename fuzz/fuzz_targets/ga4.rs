#![no_main]
//! Beacons of GA4.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("ga4", data));
