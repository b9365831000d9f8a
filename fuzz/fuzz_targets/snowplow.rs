#![no_main]
//! Beacons of Snowplow.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("snowplow", data));
