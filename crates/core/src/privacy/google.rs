//! Google's Consent Mode on the wire (`docs/contracts/beacons.md` 12.6): `gcs` and `gcd`. Both are read by position;
//! unknown values are unset.

/// A visitor's choices for Google's consent types. `None` is unset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoogleConsent {
    /// Google's signal `ad_storage`: true if granted, `None` if unknown.
    pub ad_storage: Option<bool>,
    /// Google's signal `analytics_storage`: true if granted, `None` if unknown.
    pub analytics_storage: Option<bool>,
    /// Google's signal `ad_user_data`: true if granted, `None` if unknown.
    pub ad_user_data: Option<bool>,
    /// Google's signal `ad_personalization`: true if granted, `None` if unknown.
    pub ad_personalization: Option<bool>,
}

/// The most delegations from one type to another: more than there are types would be a circle.
const MAX_STEPS: usize = 4;

impl GoogleConsent {
    /// Reads `gcs`: `G1` and two choices, such as `G101`.
    pub fn from_gcs(gcs: &str) -> Self {
        let mut letters = gcs.strip_prefix("G1").unwrap_or_default().chars();
        let mut answer = || match letters.next() {
            Some('1') => Some(true),
            Some('0') => Some(false),
            _ => None,
        };
        Self { ad_storage: answer(), analytics_storage: answer(), ..Self::default() }
    }

    /// Reads `gcd`: a version, then a pair of letters for each type.
    pub fn from_gcd(gcd: &str) -> Self {
        let mut letters = gcd.bytes();
        if letters.next() != Some(b'1') {
            return Self::default();
        }
        let mut pairs = [GoogleConsentSignal::default(); 4];
        for pair in &mut pairs {
            let (Some(first), Some(second)) =
                (letters.next().and_then(index), letters.next().and_then(index))
            else {
                return Self::default();
            };
            *pair = GoogleConsentSignal { delegation: first >> 2, choices: second };
        }
        let [ad_storage, analytics_storage, ad_user_data, ad_personalization] =
            [0, 1, 2, 3].map(|place| effective(&pairs, place));
        Self { ad_storage, analytics_storage, ad_user_data, ad_personalization }
    }

    /// Returns its own choices, and the other's where it has none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            ad_storage: self.ad_storage.or(other.ad_storage),
            analytics_storage: self.analytics_storage.or(other.analytics_storage),
            ad_user_data: self.ad_user_data.or(other.ad_user_data),
            ad_personalization: self.ad_personalization.or(other.ad_personalization),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct GoogleConsentSignal {
    /// Above 11: the type, from 12 on, whose choice applies to this one.
    delegation: u8,
    /// The declared, default and update choices, two bits each.
    choices: u8,
}

/// Returns the update if there is one, else the default, else the declared value. An implied value is not the
/// visitor's choice.
fn effective(pairs: &[GoogleConsentSignal; 4], place: usize) -> Option<bool> {
    let mut place = place;
    for _ in 0..MAX_STEPS {
        let pair = pairs.get(place)?;
        let parts = [pair.choices & 3, (pair.choices >> 2) & 3, (pair.choices >> 4) & 3];
        let stated = parts.into_iter().find_map(|part| match part {
            2 => Some(false),
            3 => Some(true),
            _ => None,
        });
        if stated.is_some() {
            return stated;
        }
        place = usize::from(pair.delegation.checked_sub(12)?);
    }
    None
}

/// Returns the index of a letter in `0-9a-zA-Z-_`.
fn index(letter: u8) -> Option<u8> {
    Some(match letter {
        b'0'..=b'9' => letter - b'0',
        b'a'..=b'z' => letter - b'a' + 10,
        b'A'..=b'Z' => letter - b'A' + 36,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn google(answers: [Option<bool>; 4]) -> GoogleConsent {
        let [ad_storage, analytics_storage, ad_user_data, ad_personalization] = answers;
        GoogleConsent { ad_storage, analytics_storage, ad_user_data, ad_personalization }
    }

    const YES: Option<bool> = Some(true);
    const NO: Option<bool> = Some(false);

    #[test]
    fn gcs_has_two_choices() {
        for (gcs, expected) in [
            ("G111", [YES, YES, None, None]),
            ("G100", [NO, NO, None, None]),
            ("G101", [NO, YES, None, None]),
            ("G1-1", [None, YES, None, None]),
            ("G1", [None; 4]),
            ("G211", [None; 4]),
            ("", [None; 4]),
        ] {
            assert_eq!(GoogleConsent::from_gcs(gcs), google(expected), "{gcs}");
        }
    }

    #[test]
    fn gcd_is_read_as_the_contract_says() {
        for (gcd, expected) in [
            ("13l3l3l3l1l1", [None; 4]),
            ("13p3p3p2p5l1", [NO; 4]),
            ("13r3r3r2r5l1", [YES; 4]),
            ("13t3t3t2t5l1", [YES; 4]),
            ("13u3v3p3q5", [NO, YES, NO, NO]),
            ("13m3n3l3l1l1", [NO, YES, None, None]),
            // Delegated to ad_storage, but with a choice of its own.
            ("13p3pPp2p5l1", [NO; 4]),
            // Delegated to ad_storage without one.
            ("13t3pPl3l1", [YES, NO, YES, None]),
            // In a circle.
            ("1Ll3pPl3l1", [None, NO, None, None]),
            ("23p3p3p2p5l1", [None; 4]),
            ("13p3p3", [None; 4]),
            ("1é", [None; 4]),
        ] {
            assert_eq!(GoogleConsent::from_gcd(gcd), google(expected), "{gcd}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "1?.*") {
            let both = GoogleConsent::from_gcd(&text).or(GoogleConsent::from_gcs(&text));
            prop_assert_eq!(both.or(both), both);
        }
    }
}
