//! Locates addresses with a MaxMind database (GeoIP2 or GeoLite2, City or Country).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use maxminddb::{Reader, geoip2};

use crate::event::GeoLocation;
use crate::settings::SettingsSection;

/// The database, if one is configured. Cheap to clone.
#[derive(Clone, Default)]
pub struct GeoDatabase(Option<Arc<Reader<Vec<u8>>>>);

impl fmt::Debug for GeoDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Geo({})", self.is_known())
    }
}

impl GeoDatabase {
    /// Reads `[geo]` and the whole database file that it names: some 70 MiB for GeoLite2 City.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        let Some(path) = section.opt_path("database") else { return Self(None) };
        match Reader::open_readfile(&path) {
            Ok(reader) => Self(Some(Arc::new(reader))),
            Err(error) => {
                section.error("database", &format!("cannot be read: {error}"));
                Self(None)
            }
        }
    }

    /// Returns true if a database is loaded.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the location of an address; `None` if the database does not know it.
    pub fn locate(&self, address: IpAddr) -> Option<GeoLocation> {
        let found = self.0.as_ref()?.lookup(address.to_canonical()).ok()?;
        let city: geoip2::City<'_> = found.decode().ok()??;
        let text = |text: Option<&str>| text.map(str::to_owned);
        let place = GeoLocation {
            country: text(city.country.iso_code),
            region: city.subdivisions.first().and_then(|region| text(region.iso_code)),
            city: text(city.city.names.english),
            postal_code: text(city.postal.code),
            time_zone: text(city.location.time_zone),
        };
        (place != GeoLocation::default()).then_some(place)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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
    pub(crate) fn database() -> Vec<u8> {
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
    pub(crate) fn zurich() -> GeoDatabase {
        GeoDatabase(Some(Arc::new(Reader::from_source(database()).unwrap())))
    }

    #[test]
    fn locate_returns_a_place_only_for_known_addresses() {
        let place = zurich().locate("192.0.2.7".parse().unwrap()).unwrap();
        assert_eq!(
            place,
            GeoLocation {
                country: Some("CH".to_owned()),
                region: Some("ZH".to_owned()),
                city: Some("Zurich".to_owned()),
                postal_code: Some("8001".to_owned()),
                time_zone: Some("Europe/Zurich".to_owned()),
            }
        );
        assert!(zurich().locate("::ffff:192.0.2.7".parse().unwrap()).is_some());
        assert_eq!(zurich().locate("198.51.100.7".parse().unwrap()), None);
        assert_eq!(GeoDatabase::default().locate("192.0.2.7".parse().unwrap()), None);
    }
}
