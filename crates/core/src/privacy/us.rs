//! Opt-outs under the laws of US states: the old `us_privacy` string and the sections of a GPP string
//! (`docs/contracts/beacons.md` 12.4).

use std::panic::catch_unwind;
use std::str::FromStr;

use iab_gpp::sections::us_common::OptOut;
use iab_gpp::sections::usnat;
use iab_gpp::sections::{Section, SectionId};
use iab_gpp::v1::GPPString;

use super::tcf::TcfConsentString;

/// The longest GPP string that is read.
const MAX_BYTES: usize = 4096;

/// The longest header that is read: one with each existing section has some twenty letters. The size of a header's
/// expanded ranges grows faster than its length.
const MAX_HEADER_BYTES: usize = 40;

/// The most sections that are read: there are some twenty.
const MAX_SECTIONS: usize = 32;

/// The consents in a GPP string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GppConsentString {
    /// True if the visitor opted out of sale, sharing or targeted advertising in one of its sections for the United
    /// States.
    pub opts_out: bool,
    /// The consent string in its section for the European Union.
    pub tcf: Option<TcfConsentString>,
}

/// Returns true if a `us_privacy` string is an opt-out: `1YYN`.
pub fn opts_out(us_privacy: &str) -> bool {
    let mut letters = us_privacy.chars();
    us_privacy.len() == 4
        && letters.next() == Some('1')
        && letters.nth(1).is_some_and(|letter| letter.eq_ignore_ascii_case(&'y'))
}

impl GppConsentString {
    /// Reads a GPP string. Unreadable parts of it have no effect.
    pub fn read(text: &str) -> Self {
        let header = text.split('~').next().unwrap_or_default();
        if text.len() > MAX_BYTES || header.len() > MAX_HEADER_BYTES {
            return Self::default();
        }
        // The library adds up values without a bounds check, and clients may send any string.
        catch_unwind(|| Self::read_bounded(text)).unwrap_or_default()
    }

    fn read_bounded(text: &str) -> Self {
        let mut gpp = Self::default();
        let Ok(string) = GPPString::from_str(text) else { return gpp };
        for &id in string.section_ids().take(MAX_SECTIONS) {
            match id {
                // That library would expand the vendors' ranges, so this module reads the section.
                SectionId::TcfEuV2 => gpp.tcf = string.section(id).and_then(TcfConsentString::read),
                SectionId::TcfEuV1 | SectionId::TcfCaV1 => {}
                SectionId::UspV1 => gpp.opts_out |= string.section(id).is_some_and(opts_out),
                _ => gpp.opts_out |= string.decode_section(id).is_ok_and(|it| is_opt_out(&it)),
            }
        }
        gpp
    }
}

/// Returns true if a state's section is an opt-out. All sections have the same form.
fn is_opt_out(section: &Section) -> bool {
    /// The choices that each section has, and the browser's own signal where the section repeats it.
    macro_rules! any {
        ($core:expr, $($choice:ident),+) => { $($core.$choice == OptOut::OptedOut)||+ };
    }
    match section {
        Section::UsNat(it) => {
            let by_choice = match &it.core {
                usnat::Core::V1(core) => {
                    any!(core, sale_opt_out, sharing_opt_out, targeted_advertising_opt_out)
                }
                usnat::Core::V2(core) => {
                    any!(core, sale_opt_out, sharing_opt_out, targeted_advertising_opt_out)
                }
                _ => false,
            };
            by_choice || it.gpc == Some(true)
        }
        Section::UsCa(it) => any!(it.core, sale_opt_out, sharing_opt_out) || it.gpc == Some(true),
        Section::UsVa(it) => any!(it.core, sale_opt_out, targeted_advertising_opt_out),
        Section::UsUt(it) => any!(it.core, sale_opt_out, targeted_advertising_opt_out),
        Section::UsFl(it) => any!(it.core, sale_opt_out, targeted_advertising_opt_out),
        Section::UsCo(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsCt(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsMt(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsOr(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsTx(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsDe(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsIa(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsNe(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsNh(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsNj(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsTn(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        Section::UsMn(it) => {
            any!(it.core, sale_opt_out, targeted_advertising_opt_out) || it.gpc == Some(true)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn third_letter_of_us_privacy_is_the_opt_out() {
        for (text, expected) in
            [("1YYN", true), ("1-y-", true), ("1YNN", false), ("2YYN", false), ("1YY", false)]
        {
            assert_eq!(opts_out(text), expected, "{text}");
        }
    }

    #[test]
    fn gpp_string_is_read_section_by_section() {
        // Sections 2 and 6, as in the specification's own example.
        let both =
            GppConsentString::read("DBACNY~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA~1YNN");
        assert!(!both.opts_out);
        assert!(both.tcf.is_some());
        assert!(
            GppConsentString::read("DBACNY~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA~1YYN")
                .opts_out
        );
        for nothing in ["", "DBA", "x~y", &"D".repeat(5000)] {
            assert_eq!(GppConsentString::read(nothing), GppConsentString::default(), "{nothing}");
        }
    }

    #[test]
    fn hostile_headers_have_no_effect() {
        assert!(GppConsentString::read("DBABTA~1YYN").opts_out);
        let long = format!("DBABTA{}~1YYN", "A".repeat(40));
        // One number above what a section's can be; thousands of ranges.
        for hostile in ["DBABKqw~1YYN", &long, &format!("DB__{}~", "Vt".repeat(2000))] {
            assert_eq!(GppConsentString::read(hostile), GppConsentString::default(), "{hostile}");
        }
    }

    #[test]
    fn national_section_is_an_opt_out_by_any_of_its_choices() {
        // Version 1, six notices, then sale, sharing, targeted advertising: two bits each. The rest is zero, except
        // for the flag of a covered transaction.
        let of = |choices: &str| {
            let bits = format!("000001{}{choices}{}010000", "01".repeat(6), "0".repeat(30));
            let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let text: String = bits
                .as_bytes()
                .chunks_exact(6)
                .map(|six| {
                    let six = str::from_utf8(six).unwrap();
                    char::from(letters[usize::from(u8::from_str_radix(six, 2).unwrap())])
                })
                .collect();
            GppConsentString::read(&format!("DBABLA~{text}")).opts_out
        };
        assert!(!of("101010"));
        for choices in ["011010", "100110", "101001"] {
            assert!(of(choices), "{choices}");
        }
    }
}
