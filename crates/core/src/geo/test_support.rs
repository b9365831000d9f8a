//! A small database for tests.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::sync::Arc;

use maxminddb::Reader;

use super::GeoDatabase;

/// A text in the database's own format.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![2 << 5 | u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![7 << 5 | u8::try_from(members.len()).unwrap()];
    for (name, value) in members {
        bytes.extend(text(name));
        bytes.extend(value);
    }
    bytes
}

/// A number of 32 bits.
fn number(number: u32) -> Vec<u8> {
    [vec![6 << 5 | 4], number.to_be_bytes().to_vec()].concat()
}

fn short(number: u16) -> Vec<u8> {
    [vec![5 << 5 | 2], number.to_be_bytes().to_vec()].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(items.len()).unwrap(), 11 - 7];
    bytes.extend(items.concat());
    bytes
}

/// Builds a database that knows only the addresses 192.0.2.0/24, in Zürich.
pub fn database() -> Vec<u8> {
    let names = |name: &str| map(&[("names", map(&[("en", text(name))]))]);
    let record = map(&[
        ("city", names("Zurich")),
        ("country", map(&[("iso_code", text("CH"))])),
        ("postal", map(&[("code", text("8001"))])),
        ("location", map(&[("time_zone", text("Europe/Zurich"))])),
        ("subdivisions", list(&[map(&[("iso_code", text("ZH"))])])),
    ]);
    let bits = 24_u32;
    let nowhere = bits.to_be_bytes();
    let mut bytes = Vec::new();
    for bit in 0..bits {
        let next = if bit + 1 == bits { bits + 16 } else { bit + 1 }.to_be_bytes();
        let is_one = 0xc000_0200_u32 >> (31 - bit) & 1 == 1;
        let pair = if is_one { [nowhere, next] } else { [next, nowhere] };
        bytes.extend(pair.iter().flat_map(|record| &record[1..]));
    }
    bytes.extend([0; 16]);
    bytes.extend(record);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    bytes.extend(map(&[
        ("node_count", number(bits)),
        ("record_size", short(24)),
        ("ip_version", short(4)),
        ("database_type", text("GeoLite2-City")),
        ("languages", list(&[text("en")])),
        ("binary_format_major_version", short(2)),
        ("binary_format_minor_version", short(0)),
        ("build_epoch", vec![0, 9 - 7]),
        ("description", map(&[("en", text("test"))])),
    ]));
    bytes
}

/// Opens [`database`].
pub fn zurich() -> GeoDatabase {
    GeoDatabase(Some(Arc::new(Reader::from_source(database()).unwrap())))
}
