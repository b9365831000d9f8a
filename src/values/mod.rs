//! Single values as sites, browsers and servers write them, read the same way wherever they come in: by
//! beacons, the Segment API, files of people and mappings. Pure; no reader here knows whose value it is.

pub mod address;
pub mod digits;
pub mod time;
