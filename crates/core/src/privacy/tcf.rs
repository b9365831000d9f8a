//! The core segment of an IAB TCF v2 consent string (`docs/contracts/beacons.md` 12.5). Vendor ranges are walked, never
//! expanded: a few bytes of them can name every vendor there is.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// The longest string that is read: a core segment with a thousand ranges.
const MAX_BYTES: usize = 4096;

/// Base64url; the last character of a segment may have unused bits.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The offsets of the parts of the core segment, in bits.
const PURPOSES_CONSENT: usize = 152;
const PURPOSES_INTEREST: usize = 176;
const VENDORS: usize = 213;

/// A visitor's consent, by the numbers of the Global Vendor List.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcfConsentString {
    core: Vec<u8>,
}

impl TcfConsentString {
    /// Reads a string. `None` if it is not version 2, or ends before its purposes do.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let core = BASE64.decode(text.split('.').next()?).ok()?;
        let string = Self { core };
        let is_whole = string.number(0, 6)? == 2 && string.bit(VENDORS - 1).is_some();
        is_whole.then_some(string)
    }

    /// Returns true if the visitor consents to a purpose, from 1 to 24.
    pub fn consents(&self, purpose: u8) -> bool {
        self.purpose(PURPOSES_CONSENT, purpose)
    }

    /// Returns true if a purpose has consent, or a legitimate interest without objection.
    pub fn allows(&self, purpose: u8) -> bool {
        self.consents(purpose) || self.purpose(PURPOSES_INTEREST, purpose)
    }

    fn purpose(&self, start: usize, purpose: u8) -> bool {
        let place = usize::from(purpose).checked_sub(1).filter(|place| *place < 24);
        place.and_then(|place| self.bit(start + place)).unwrap_or(false)
    }

    /// Returns true if the visitor consents to a vendor.
    pub fn consents_to_vendor(&self, vendor: u16) -> bool {
        self.vendor(vendor).unwrap_or(false)
    }

    fn vendor(&self, vendor: u16) -> Option<bool> {
        let vendor = u64::from(vendor);
        if vendor == 0 || vendor > self.number(VENDORS, 16)? {
            return Some(false);
        }
        if !self.bit(VENDORS + 16)? {
            let place = usize::try_from(vendor).ok()?;
            return self.bit(VENDORS + 16 + place);
        }
        let entries = self.number(VENDORS + 17, 12)?;
        let mut at = VENDORS + 29;
        for _ in 0..entries {
            let is_range = self.bit(at)?;
            let first = self.number(at + 1, 16)?;
            let last = if is_range { self.number(at + 17, 16)? } else { first };
            at += if is_range { 33 } else { 17 };
            if (first..=last).contains(&vendor) {
                return Some(true);
            }
        }
        Some(false)
    }

    fn bit(&self, place: usize) -> Option<bool> {
        let byte = self.core.get(place / 8)?;
        Some(byte >> (7 - place % 8) & 1 == 1)
    }

    fn number(&self, start: usize, bits: usize) -> Option<u64> {
        let mut number = 0;
        for place in start..start + bits {
            number = number << 1 | u64::from(self.bit(place)?);
        }
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the bits of a core segment.
    fn core(purposes: &[u8], interests: &[u8], vendors: &str) -> String {
        let mut bits = String::from("000010");
        bits.push_str(&"0".repeat(PURPOSES_CONSENT - 6));
        for list in [purposes, interests] {
            bits.extend((1..=24).map(|purpose| if list.contains(&purpose) { '1' } else { '0' }));
        }
        bits.push_str(&"0".repeat(VENDORS - 200));
        bits.push_str(vendors);
        let bytes: Vec<u8> = bits
            .as_bytes()
            .chunks(8)
            .map(|eight| {
                let text = format!("{:0<8}", str::from_utf8(eight).unwrap());
                u8::from_str_radix(&text, 2).unwrap()
            })
            .collect();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn purposes_are_consents_or_interests() {
        let string = TcfConsentString::read(&core(&[1, 7, 24], &[2, 8], &"0".repeat(17))).unwrap();
        let list = |holds: &dyn Fn(u8) -> bool| (0..=30).filter(|p| holds(*p)).collect::<Vec<_>>();
        assert_eq!(list(&|purpose| string.consents(purpose)), [1, 7, 24]);
        assert_eq!(list(&|purpose| string.allows(purpose)), [1, 2, 7, 8, 24]);
    }

    #[test]
    fn vendors_are_bits_or_ranges() {
        let bits = format!("{:016b}0{}", 5, "01001");
        let ranges = format!("{:016b}1{:012b}0{:016b}1{:016b}{:016b}", 800, 2, 755, 10, 12);
        let of = |vendors: &str| {
            let string = TcfConsentString::read(&core(&[], &[], vendors)).unwrap();
            (0..=900).filter(|vendor| string.consents_to_vendor(*vendor)).collect::<Vec<_>>()
        };
        assert_eq!(of(&bits), [2, 5]);
        assert_eq!(of(&ranges), [10, 11, 12, 755]);
        assert_eq!(of(ranges.get(..40).unwrap()), Vec::<u16>::new(), "cut short");
    }

    #[test]
    fn a_string_of_the_specification_is_read() {
        // The example that decoders are commonly tested with.
        let string = TcfConsentString::read("COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA.IFoEUQQgAIQwgIwQABAEAAAAOIAACAIAAAAQAIAgEAACEAAAAAgAQBAAAAAAAGBAAgAAAAAAAFAAECAAAgAAQARAEQAAAAAJAAIAAgAAAYQEAAAQmAgBC3ZAYzUw").unwrap();
        let consents: Vec<u8> = (1..=24).filter(|purpose| string.consents(*purpose)).collect();
        assert_eq!(consents, [1, 2, 3]);
        let vendors: Vec<u16> = (0..20).filter(|v| string.consents_to_vendor(*v)).collect();
        assert_eq!(vendors, [2, 6, 8]);
    }

    #[test]
    fn strings_of_other_versions_are_not_read() {
        for bad in ["", "BOvFyGB", "COvFyGBOvFyGB", "C***", &"C".repeat(5000)] {
            assert_eq!(TcfConsentString::read(bad), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "C[A-Za-z0-9_-]{0,200}", vendor in any::<u16>()) {
            if let Some(string) = TcfConsentString::read(&text) {
                let _ = (string.consents_to_vendor(vendor), string.allows(7));
            }
        }
    }
}
