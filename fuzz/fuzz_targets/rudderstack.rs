#![no_main]
//! Beacons of RudderStack.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("rudderstack", data));
