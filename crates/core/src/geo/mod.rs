//! Locates addresses with a MaxMind database (GeoIP2 or GeoLite2, City or Country).

#[cfg(any(test, feature = "testing"))]
pub mod test_support;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use maxminddb::{Reader, geoip2};

use crate::event::GeoLocation;
use tagway_settings::{Setting, SettingsSection};

/// The described settings of `[geo]`.
pub const GEO_SETTINGS: &[Setting] = &[Setting::path("database")
    .example("GeoLite2-City.mmdb")
    .doc("a MaxMind database, City or Country; each reload reads it again")];

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
        section.describe(GEO_SETTINGS);
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
mod tests {
    use super::test_support::zurich;
    use super::*;

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
