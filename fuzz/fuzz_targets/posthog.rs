#![no_main]
//! Beacons of PostHog.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagway_fuzz::beacon("posthog", data));
