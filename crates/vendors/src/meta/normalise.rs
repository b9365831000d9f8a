//! Normal forms of personal data as Meta hashes them (`docs/contracts/destinations.md` 2.4, the column of
//! Meta's own parameter builder), and their digests.
//!
//! Differences from the builder: a state outside the United States and Canada is not cut to two
//! letters, a country with an unknown code and name is dropped rather than cut to two letters that are
//! another country's, and postal codes lose their spaces. Telephone numbers, e-mail addresses and names
//! are read by the readers that all vendors share.

use std::borrow::Cow;

use jiff::civil::Date;

use super::places;
use crate::digest;
use tagway_core::values::{email, name, unicode};

/// The digests of the empty text, SHA-256 and MD5: the signs of a broken sender.
const EMPTY_TEXT_DIGESTS: [&str; 2] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "d41d8cd98f00b204e9800998ecf8427e",
];

/// Words of forms for each gender, in lower-case letters alone.
const MALE: &[&str] = &[
    "m",
    "male",
    "man",
    "men",
    "boy",
    "guy",
    "gentleman",
    "he",
    "him",
    "his",
    "hehim",
    "mr",
    "mister",
    "sir",
    "herr",
    "mann",
    "monsieur",
    "homme",
    "hombre",
    "uomo",
    "masculino",
    "maschio",
    "masculin",
];
const FEMALE: &[&str] = &[
    "f",
    "female",
    "woman",
    "women",
    "girl",
    "gal",
    "lady",
    "she",
    "her",
    "hers",
    "sheher",
    "mrs",
    "ms",
    "miss",
    "madam",
    "maam",
    "frau",
    "w",
    "madame",
    "mademoiselle",
    "femme",
    "mujer",
    "donna",
    "femenino",
    "femmina",
    "feminin",
    "féminin",
];

/// The earliest valid year of birth.
const EARLIEST_YEAR: i16 = 1800;

/// Returns the digest of a value in its normal form. A value that its sender hashed stays as it is.
pub(super) fn hashed(
    value: &str,
    normalise: impl FnOnce(&str) -> Option<String>,
) -> Option<String> {
    let value = value.trim();
    if digest::is_sha256(value) || is_md5(value) {
        return Some(value.to_ascii_lowercase())
            .filter(|digest| !EMPTY_TEXT_DIGESTS.contains(&digest.as_str()));
    }
    // A name may have two encodings in Unicode; others hash the composed one, and the rules below
    // expect it.
    let value = unicode::visible(value);
    digest::sha256(&unicode::composed(&normalise(&unicode::composed(&value))?))
}

fn is_md5(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns an e-mail address in lower case.
pub(super) fn email(text: &str) -> Option<String> {
    email::identity(text)
}

/// Normalises a first or last name: lower case, without spaces and ASCII punctuation. Letters of all
/// scripts stay.
pub(super) fn name(text: &str) -> Option<String> {
    let text = name::read(text)?.to_lowercase();
    some(text, |c| !c.is_whitespace() && !c.is_ascii_punctuation())
}

/// Returns a gender as `m` or `f`. `None` for any other word.
pub(super) fn gender(text: &str) -> Option<String> {
    let word = letters(text);
    let of = |words: &[&str]| words.contains(&word.as_str());
    let letter = if of(MALE) { "m" } else { of(FEMALE).then_some("f")? };
    Some(letter.to_owned())
}

/// Returns a day of birth as `YYYYMMDD`. It is read year first, as in ISO 8601; else month first, unless
/// that cannot be a month. Years after the next one are invalid.
pub(super) fn birthday(text: &str, this_year: i16) -> Option<String> {
    // The time of day in "1997-12-26T00:00:00Z" is ignored.
    let day = text.trim().split('T').next().unwrap_or_default();
    let parts = day.split(['-', '/', '.', ' ']).filter(|part| !part.is_empty());
    let parts: Vec<&str> = parts.take_while(|part| !part.contains(':')).collect();
    let date = match parts.as_slice() {
        [digits] if digits.len() == 8 => {
            let (first, last) = digits.split_at_checked(4)?;
            let halves = |text: &str| Some((number(text.get(..2)?)?, number(text.get(2..)?)?));
            let ((a, b), (c, d)) = (halves(first)?, halves(last)?);
            let (year_first, year_last) = (number(first)?, number(last)?);
            date(year_first, c, d, this_year).or_else(|| month_or_day(a, b, year_last, this_year))
        }
        [year, month, day] if year.len() == 4 => {
            date(number(year)?, number(month)?, number(day)?, this_year)
        }
        [a, b, year] if year.len() == 4 => {
            month_or_day(number(a)?, number(b)?, number(year)?, this_year)
        }
        _ => None,
    }?;
    Some(format!("{:04}{:02}{:02}", date.year(), date.month(), date.day()))
}

fn number(digits: &str) -> Option<i16> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn month_or_day(a: i16, b: i16, year: i16, this_year: i16) -> Option<Date> {
    date(year, a, b, this_year).or_else(|| date(year, b, a, this_year))
}

fn date(year: i16, month: i16, day: i16, this_year: i16) -> Option<Date> {
    let is_likely = (EARLIEST_YEAR..=this_year.saturating_add(1)).contains(&year);
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    is_likely.then(|| Date::new(year, month, day).ok())?
}

/// Normalises a city: lower-case ASCII letters and digits, a letter first.
pub(super) fn city(text: &str) -> Option<String> {
    some(text.to_ascii_lowercase(), |c| c.is_ascii_alphanumeric())
        .filter(|city| city.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Normalises a state: two letters in the United States and Canada; elsewhere lower-case ASCII letters
/// and digits. The country is an ISO code, if known.
pub(super) fn state(text: &str, country: Option<&str>) -> Option<String> {
    let (country, text) = match subdivision(text) {
        // "US-CA" (ISO 3166-2) names the country too.
        Some((prefix, code)) if country.is_none_or(|country| country == prefix) => {
            (Some(prefix), code)
        }
        _ => (country.map(Cow::Borrowed), text),
    };
    let country = country.as_deref();
    let letters = letters(text);
    let code = match country {
        Some("us") => places::us_state(&letters),
        Some("ca") => places::canadian_province(&letters),
        Some(_) => None,
        None => places::us_state(&letters).or_else(|| places::canadian_province(&letters)),
    };
    if let Some(code) = code {
        return Some(code.to_owned());
    }
    let mut plain = some(text.to_ascii_lowercase(), |c| c.is_ascii_alphanumeric())?;
    if matches!(country, Some("us" | "ca")) {
        plain.truncate(2);
    }
    Some(plain)
}

/// Splits an ISO 3166-2 code, such as `US-CA`, into the country and the rest.
fn subdivision(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (country, code) = text.trim().split_once(['-', '_'])?;
    let country = country.to_lowercase();
    let is_code = (1..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_code && places::is_code(&country)).then_some((Cow::Owned(country), code))
}

/// Normalises a postal code: lower case, without spaces, up to the hyphen.
pub(super) fn postal_code(text: &str) -> Option<String> {
    let main = text.split('-').next().unwrap_or_default();
    some(main.to_lowercase(), |c| !c.is_whitespace()).filter(|code| code.chars().count() >= 2)
}

/// Returns a country's ISO 3166-1 alpha-2 code in lower case.
pub(super) fn country(text: &str) -> Option<String> {
    let plain = letters(text);
    // "Korea, Republic of", as ISO 3166 lists countries.
    let turned = text.rsplit_once(',').map(|(name, form)| letters(&format!("{form} {name}")));
    let article = plain.strip_prefix("the");
    let before = text.split_once(',').map(|(name, _)| letters(name));
    let names = [Some(plain.as_str()), turned.as_deref(), article, before.as_deref()];
    if let Some(code) = names.into_iter().flatten().find_map(places::country) {
        return Some(code.to_owned());
    }
    let letters = plain;
    let is_code = letters.len() == 2 && letters.bytes().all(|byte| byte.is_ascii_lowercase());
    is_code.then_some(letters)
}

/// Normalises the site's own id: lower case, without spaces, as Meta's pixel hashes it.
pub(super) fn external_id(text: &str) -> Option<String> {
    some(text.to_lowercase(), |c| !c.is_whitespace())
}

fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect()
}

/// Keeps the characters that pass. `None` if none does.
fn some(text: String, passes: impl Fn(char) -> bool) -> Option<String> {
    let text = if text.chars().all(&passes) {
        text
    } else {
        text.chars().filter(|c| passes(*c)).collect()
    };
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagway_core::values::telephone;

    /// Normalises a field of the contract's table, as the mapping does.
    fn normal(field: &str, text: &str) -> Option<String> {
        match field {
            "em" => email(text),
            "ph" => telephone::read(text, None),
            "fn" | "ln" => name(text),
            "ge" => gender(text),
            "db" => birthday(text, 2026),
            "ct" => city(text),
            "st" => state(text, Some("us")),
            "zp" => postal_code(text),
            "country" => country(text),
            _ => external_id(text),
        }
    }

    #[test]
    fn digests_are_those_of_the_contract() {
        for (field, written, expected) in [
            (
                "em",
                " John_Smith@Gmail.com ",
                "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f",
            ),
            (
                "ph",
                "+1 (650) 555-1212",
                "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176",
            ),
            (
                "ph",
                "0044 8444 124653",
                "dc008fda46e2e64002cf2f82a4906236282d431c4f75e5b60bfe79fc48546383",
            ),
            ("fn", " Mary", "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
            (
                "fn",
                "Val\u{e9}ry",
                "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c",
            ),
            ("fn", "\u{c815}", "8fa8cd9c440be61d0151429310034083132b35975c4bea67fdd74158eb51db14"),
            ("ln", "O'Brien", "b4cb6cb33fe4b865868de825023a1e2790dc12ac01ecc8d7c5afe8254071c8ba"),
            (
                "db",
                "1997-12-26",
                "069068313b0b2dd680b9f0b8082228a817fb100433ad1d825ccc4d20123669a8",
            ),
            ("ge", "Female", "252f10c83610ebca1a059c0bae8255eba2f95be4d1d7bcfa89d7248a82d9f111"),
            ("ge", "m", "62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a"),
            (
                "ct",
                "San Francisco",
                "1a6bd4d9d79dc0a79b53795c70d3349fa9e38968a3fbefbfe8783efb1d2b6aac",
            ),
            (
                "st",
                "California",
                "6959097001d10501ac7d54c0bdb8db61420f658f2922cc26e46d536119a31126",
            ),
            (
                "zp",
                "94035-1234",
                "1794327a4d443904421f5ca1f3d72d0a62ba2f0770d80755ec2220fc0efb052e",
            ),
            (
                "country",
                "United States",
                "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621",
            ),
        ] {
            let digest = hashed(written, |text| normal(field, text));
            assert_eq!(digest.as_deref(), Some(expected), "{field} {written}");
            let again = hashed(&expected.to_uppercase(), |_| panic!("it is a digest already"));
            assert_eq!(again.as_deref(), Some(expected));
        }
    }

    #[test]
    fn empty_values_have_no_digest() {
        for field in ["em", "ph", "fn", "ge", "db", "ct", "st", "zp", "country", "external_id"] {
            for text in ["", "  ", "-", EMPTY_TEXT_DIGESTS[0], EMPTY_TEXT_DIGESTS[1]] {
                let digest = hashed(text, |text| normal(field, text));
                let is_id = field == "external_id" && text == "-";
                assert_eq!(digest.is_some(), is_id, "{field} {text:?}");
            }
        }
        let md5 = "5D41402ABC4B2A76B9719D911017C592";
        assert_eq!(hashed(md5, email).as_deref(), Some("5d41402abc4b2a76b9719d911017c592"));
    }

    #[test]
    fn email_rejects_texts_that_are_no_addresses() {
        assert_eq!(email(" Jo@X.Example\n").as_deref(), Some("jo@x.example"));
        for bad in ["jo", "jo@", "@x.example", "jo@x", "a b@x.example", "a@b@c.example"] {
            assert_eq!(email(bad), None, "{bad}");
        }
    }

    #[test]
    fn birthdays_are_read_in_common_notations() {
        for (written, expected) in [
            ("1997-12-26T10:00:00Z", "19971226"),
            ("1997/12/26", "19971226"),
            ("1997 12 26", "19971226"),
            ("1997-12-26 10:00:00", "19971226"),
            ("26. 12. 1997", "19971226"),
            ("12/26/1997", "19971226"),
            ("26/12/1997", "19971226"),
            ("26.12.1997", "19971226"),
            ("2/3/1990", "19900203"),
            ("19971226", "19971226"),
            ("12261997", "19971226"),
            ("2027-01-01", "20270101"),
            ("2024-02-29", "20240229"),
        ] {
            assert_eq!(birthday(written, 2026).as_deref(), Some(expected), "{written}");
        }
        for bad in [
            "",
            "1997",
            "2023-02-29",
            "1799-01-01",
            "2028-01-01",
            "97-12-26",
            "soon",
            "13/13/1997",
            "1997-12",
            "+997-12-26",
            "éé971226",
        ] {
            assert_eq!(birthday(bad, 2026), None, "{bad}");
        }
    }

    #[test]
    fn states_are_two_letters_in_north_america_only() {
        for (written, country, expected) in [
            ("California", Some("us"), "ca"),
            ("CA", Some("us"), "ca"),
            ("Calif.", Some("us"), "ca"),
            ("New York", None, "ny"),
            ("Calif.", None, "ca"),
            ("Penn.", Some("us"), "pa"),
            ("US-CA", None, "ca"),
            ("US-CA", Some("us"), "ca"),
            ("CA-QC", None, "qc"),
            ("CH-ZH", Some("ch"), "zh"),
            ("Qu\u{e9}bec", Some("ca"), "qc"),
            ("Nova Scotia", None, "ns"),
            ("Washington", Some("gb"), "washington"),
            ("Z\u{fc}rich", Some("ch"), "zrich"),
            ("Bayern", None, "bayern"),
            ("NSW", Some("au"), "nsw"),
        ] {
            assert_eq!(state(written, country).as_deref(), Some(expected), "{written}");
        }
    }

    #[test]
    fn countries_and_codes_have_one_form() {
        for (written, expected) in [
            ("US", "us"),
            ("USA", "us"),
            ("U.S.A.", "us"),
            ("United States of America", "us"),
            ("UK", "gb"),
            ("Schweiz", "ch"),
            ("Austria", "at"),
            ("AUT", "at"),
            ("C\u{f4}te d'Ivoire", "ci"),
            ("xk", "xk"),
            ("Korea, Republic of", "kr"),
            ("Korea, Democratic People's Republic of", "kp"),
            ("Iran, Islamic Republic of", "ir"),
            ("Congo, Democratic Republic of the", "cd"),
            ("The Netherlands", "nl"),
        ] {
            assert_eq!(country(written).as_deref(), Some(expected), "{written}");
        }
        for bad in ["Atlantis", "x", "12"] {
            assert_eq!(country(bad), None, "{bad}");
        }
        assert_eq!(postal_code(" SW1A 1AA").as_deref(), Some("sw1a1aa"));
        assert_eq!(postal_code("1"), None);
        assert_eq!(city("St. Louis").as_deref(), Some("stlouis"));
        assert_eq!(city("8000 Z"), None, "a house number is no city");
        assert_eq!(name("Jean-Luc d'Arc").as_deref(), Some("jeanlucdarc"));
        for (written, letter) in [
            ("She/her", Some("f")),
            ("he", Some("m")),
            ("Lady", Some("f")),
            ("Mr.", Some("m")),
            ("Mrs", Some("f")),
            ("Frau", Some("f")),
            ("other", None),
        ] {
            assert_eq!(gender(written).as_deref(), letter, "{written}");
        }
        let spellings = ["jose\u{301} 1", "jos\u{e9} 1", "JOS\u{c9}1\u{200b}"];
        let digests = spellings.map(|id| hashed(id, external_id));
        assert!(digests.windows(2).all(|two| two[0] == two[1]));
        let cities = ["Zu\u{308}rich", "Z\u{fc}rich"].map(|it| hashed(it, city));
        assert_eq!(cities[0], cities[1]);
        assert_eq!(external_id(" User 42 ").as_deref(), Some("user42"));
    }
}
