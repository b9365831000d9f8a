//! Reader of telephone numbers as people and address books write them; the result is the digits of E.164.
//!
//! The metadata of all countries are libphonenumber's. Of its port only these are used: its parser does
//! not always find the number in a free text, and this one never returns a number that no country has.
//!
//! A number of no country, and one that cannot be a number of its country, is refused: a digest of the
//! wrong digits would be that of another person.

use std::borrow::Cow;

use moka::sync::Cache;
use phonenumber::metadata::{DATABASE, Descriptor, Metadata};

use super::unicode;

/// The longest text that is read as a number: E.164's fifteen digits with signs, a label, an extension.
const MAX_BYTES: usize = 256;

/// The longest number with its country's code (E.164), and the shortest that any country has.
const MAX_DIGITS: usize = 15;
const MIN_DIGITS: usize = 6;

/// The fewest digits of a number without any sign that may begin with its country's code: national
/// numbers have ten digits at most where people write them without a trunk prefix.
const MIN_WHOLE_DIGITS: usize = 11;

/// The most numbers in a reader's cache. A person's events come close together, and an entry takes about
/// 150 bytes: 3 MB at most.
const MAX_REMEMBERED: u64 = 20_000;

/// The marks before the digits of an extension, in lower case.
const EXTENSIONS: [&str; 15] = [
    ";ext=",
    ";isub=",
    "extension",
    "extn",
    "ext",
    "durchwahl",
    "anexo",
    "ramal",
    "poste",
    "доб",
    "int.",
    "x",
    "#",
    ",",
    ";",
];

/// The country assumed for numbers without a country code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HomeCountry {
    /// Its two letters (ISO 3166-1).
    Iso(Box<str>),
    /// Its calling code: `41`.
    CallingCode(u16),
}

impl HomeCountry {
    /// Reads a calling code or a country's two letters; `None` if that country has no telephone numbers.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        let home = match text.trim_start_matches('+').parse() {
            Ok(code) => Self::CallingCode(code),
            Err(_) => Self::Iso(text.to_ascii_uppercase().into()),
        };
        home.metadata().map(|_| home)
    }

    /// Returns the country that a person states by its two letters.
    fn stated(country: Option<&str>) -> Option<Self> {
        let code = country?.trim();
        let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphabetic());
        is_code.then(|| Self::of(code))?
    }

    fn metadata(&self) -> Option<&'static Metadata> {
        match self {
            Self::Iso(id) => DATABASE.by_id(&**id),
            Self::CallingCode(code) => {
                let regions = DATABASE.by_code(code)?;
                let main = regions.iter().find(|it| it.is_main_country_for_code());
                main.or_else(|| regions.first()).copied()
            }
        }
    }
}

/// A number as it is written, with the country assumed if it names none.
type PhoneCacheKey = (Box<str>, Option<HomeCountry>);

/// Reads telephone numbers, and caches the results: the metadata are large expressions.
#[derive(Clone, Debug)]
pub struct TelephoneReader {
    home: Option<HomeCountry>,
    remembered: Cache<PhoneCacheKey, Option<Box<str>>>,
}

impl Default for TelephoneReader {
    fn default() -> Self {
        Self::new(None)
    }
}

impl TelephoneReader {
    /// Builds a reader with this country as its home.
    pub fn new(home: Option<HomeCountry>) -> Self {
        Self { home, remembered: Cache::new(MAX_REMEMBERED) }
    }

    /// Returns the digits of E.164 of a number, the country's code first. A national number belongs to the
    /// country that the person states, else the reader's own, else the one where the person was seen: each an
    /// ISO code of two letters, or nothing.
    pub fn digits(&self, text: &str, stated: Option<&str>, seen: Option<&str>) -> Option<Box<str>> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let home = HomeCountry::stated(stated).or_else(|| self.home.clone());
        let home = home.or_else(|| HomeCountry::stated(seen));
        self.remembered.get_with((text.into(), home.clone()), || {
            read(text, home.as_ref()).map(String::into_boxed_str)
        })
    }
}

/// Returns the digits of E.164 of a number, the country's code first. National numbers are those of `home`.
pub fn read(text: &str, home: Option<&HomeCountry>) -> Option<String> {
    let written = BarePhoneNumber::of(text)?;
    let home = home.and_then(HomeCountry::metadata);
    let found = if written.is_international {
        international(&written.digits, written.trunk_zero)
    } else {
        national(&written.digits, home)
    };
    found.filter(|digits| (MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()))
}

/// A number without its notation.
#[derive(Debug, PartialEq, Eq)]
struct BarePhoneNumber {
    digits: String,
    /// True if it begins with a plus sign.
    is_international: bool,
    /// The position among the digits of a zero in brackets, which is dialled only within the country.
    trunk_zero: Option<usize>,
}

impl BarePhoneNumber {
    fn of(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let visible = unicode::visible(text);
        let plain = unicode::plain_forms(&visible);
        let text: String = plain.chars().map(unicode::ascii_digit).collect();
        let text = text.to_lowercase();
        let text = unescaped(without_label(text.trim()));
        let text = match context(&text) {
            Some(whole) => Cow::Owned(whole),
            None => Cow::Borrowed(without_extension(&text)),
        };
        let text = without_remark(first_of_several(&text));
        let mut written =
            Self { digits: String::with_capacity(16), is_international: false, trunk_zero: None };
        // The ends of the first two groups of digits.
        let mut ends = Vec::with_capacity(2);
        for (at, c) in text.char_indices() {
            if !c.is_ascii_digit() && ends.len() < 2 && ends.last() != Some(&written.digits.len()) {
                ends.extend(Some(written.digits.len()).filter(|end| *end > 0));
            }
            match c {
                '0'..='9' => {
                    if c == '0' && is_in_brackets(text, at) && !written.digits.is_empty() {
                        written.trunk_zero = Some(written.digits.len());
                    }
                    written.digits.push(c);
                }
                '+' if written.digits.bytes().all(|digit| digit == b'0') => {
                    written.is_international = true;
                    written.digits.clear();
                    ends.clear();
                }
                // "+49 +49 30 901820": the code is repeated.
                '+' if country(&written.digits).is_some_and(|(_, _, rest)| rest.is_empty()) => {
                    written.digits.clear();
                }
                '('
                | ')'
                | '['
                | ']'
                | ' '
                | '\u{a0}'
                | '\u{2000}'..='\u{200a}'
                | '\u{202f}'
                | '\u{3000}'
                | '\t'
                | '-'
                | '\u{2010}'..='\u{2015}'
                | '\u{2212}'
                | '.'
                | '\u{b7}'
                | '/'
                | '~'
                | '\''
                | '"'
                | '\u{2019}'
                | '\u{2018}'
                | '`'
                | '_'
                | '*' => {}
                _ => return None,
            }
        }
        written.drop_doubled_code(&ends);
        (!written.digits.is_empty()).then_some(written)
    }

    /// Drops the first of two equal country codes that stand apart, where the rest is a number of that
    /// country: `+49 49 30 901820`. In one group they may be the code and an area code.
    fn drop_doubled_code(&mut self, ends: &[usize]) {
        let &[first, second] = ends else { return };
        let parts = self.digits.split_at_checked(first).zip(self.digits.get(second..));
        let Some(((code, again), rest)) = parts.filter(|_| self.is_international) else { return };
        let doubled = again.strip_prefix(code).filter(|behind| *behind == rest);
        let is_number = doubled.and_then(|_| country(code)).is_some_and(|(_, regions, left)| {
            left.is_empty() && is_valid(rest.trim_start_matches('0'), &regions)
        });
        if is_number {
            self.digits.drain(..first);
            self.trunk_zero = self.trunk_zero.and_then(|at| at.checked_sub(first));
        }
    }
}

/// Returns true if the digit at this position stands alone in brackets: `(0)`.
fn is_in_brackets(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default().trim_end();
    let behind = text.get(at + 1..).unwrap_or_default().trim_start();
    before.ends_with(['(', '[']) && behind.starts_with([')', ']'])
}

/// Returns the text behind a label such as `tel:` or `Phone.`: letters before the number.
fn without_label(text: &str) -> &str {
    let text = text.trim_start_matches(['\'', '"', '`', '\u{2018}', '\u{2019}', '=']);
    let begins = text.find(|c: char| c.is_ascii_digit() || matches!(c, '+' | '(' | '%'));
    let Some((label, number)) = begins.and_then(|at| text.split_at_checked(at)) else {
        return text;
    };
    let end = label.trim_end_matches('/').trim_end();
    let is_label = end.ends_with([':', '.']) || label.ends_with(char::is_whitespace);
    let is_words = label.chars().all(|c| c.is_alphabetic() || " .:-/".contains(c));
    if is_label && is_words { number.trim_start_matches('/') } else { text }
}

/// Returns the number before a remark without digits, such as `(mobile)`, and before the decimal zero of a
/// table that took it for a float.
fn without_remark(text: &str) -> &str {
    let text = match text.strip_suffix(".0") {
        Some(whole) if whole.trim_start_matches('+').bytes().all(|b| b.is_ascii_digit()) => whole,
        _ => text,
    };
    let remark = text.find(char::is_alphabetic).and_then(|at| text.split_at_checked(at));
    let Some((number, words)) = remark else { return text };
    let has_number = number.chars().filter(char::is_ascii_digit).count() >= MIN_DIGITS;
    let is_apart = number.ends_with([' ', '\u{a0}', '(', '[']);
    let is_remark = has_number && is_apart && !words.contains(|c: char| c.is_ascii_digit());
    if is_remark { number.trim_end_matches([' ', '\u{a0}', '(', '[']) } else { text }
}

/// Decodes a link's escapes: `%2B49`.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

/// Returns the whole number of a link that states its beginning apart (RFC 3966): `30901820;phone-context=+49`.
fn context(text: &str) -> Option<String> {
    let (number, rest) = text.split_once(';')?;
    let context = rest.split(';').find_map(|part| part.strip_prefix("phone-context="))?;
    let is_whole = number.trim_start().starts_with('+') || !context.starts_with('+');
    Some(if is_whole {
        number.to_owned()
    } else {
        format!("{context}{}", number.trim_start_matches('0'))
    })
}

/// Returns the number before its extension.
fn without_extension(text: &str) -> &str {
    let end = EXTENSIONS.iter().filter_map(|mark| text.find(mark)).filter(|at| *at > 0).min();
    let Some((number, extension)) = end.and_then(|at| text.split_at_checked(at)) else {
        return text;
    };
    let digits = extension.chars().filter(char::is_ascii_digit).count();
    let is_extension = digits <= 7 && !extension.contains('+');
    if is_extension { number.trim_end_matches([' ', '(', ';', '.', '-', '/']) } else { text }
}

/// Returns the first of two whole numbers: `+49 30 901820 / +49 171 1234567`.
fn first_of_several(text: &str) -> &str {
    let separators = text.match_indices(['/', ',', ';', '|', '\n']);
    let found = separators.into_iter().find(|(at, _)| {
        let behind = text.get(at + 1..).unwrap_or_default().trim_start();
        let has_digits =
            text.get(..*at).is_some_and(|before| before.contains(|c: char| c.is_ascii_digit()));
        has_digits && behind.starts_with('+')
    });
    found.and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

/// Returns the number whose digits begin with a country's code, perhaps after leading zeros.
fn international(digits: &str, trunk_zero: Option<usize>) -> Option<String> {
    let shorn = digits.trim_start_matches('0');
    let trunk_zero = trunk_zero.and_then(|at| at.checked_sub(digits.len() - shorn.len()));
    let (code, regions, rest) = country(shorn)?;
    let without_zero = trunk_zero.and_then(|at| {
        let (before, behind) = rest.split_at_checked(at.checked_sub(code.len())?)?;
        Some(format!("{before}{}", behind.strip_prefix('0')?))
    });
    let again = rest.strip_prefix(code).or_else(|| rest.strip_prefix("00")?.strip_prefix(code));
    let mut candidates: Vec<Cow<'_, str>> = without_zero.map(Cow::Owned).into_iter().collect();
    candidates.extend([Some(rest), again].into_iter().flatten().map(Cow::Borrowed));
    for number in [Some(rest), again].into_iter().flatten() {
        candidates
            .extend(regions.iter().filter_map(|it| without_trunk(it, number).map(Cow::Owned)));
    }
    best_candidate(&candidates, &regions).map(|national| format!("{code}{national}"))
}

/// Reads a number without a plus sign: one of the home country, or an international one.
fn national(digits: &str, home: Option<&'static Metadata>) -> Option<String> {
    if let Some(rest) = digits.strip_prefix("00") {
        // The prefix for abroad in nearly all countries; no country's own numbers begin with it.
        let own = home.and_then(|home| dialled_abroad(home, digits));
        let abroad = own.or_else(|| international(rest, None));
        if abroad.is_some() {
            return abroad;
        }
    }
    let Some(home) = home else {
        // Shorter ones are national numbers of some country as well.
        return valid_abroad(digits).filter(|digits| digits.len() >= MIN_WHOLE_DIGITS);
    };
    let code = home.country_code().to_string();
    let regions = DATABASE.by_code(&home.country_code())?;
    let mut candidates = Vec::new();
    let trunk = home.national_prefix().is_some_and(|prefix| digits.starts_with(prefix));
    let after_code = digits.strip_prefix(&*code).filter(|_| !trunk || code == "1");
    // Without the trunk prefix, the country's code stands in its place.
    let has_trunk = home.national_prefix().is_some_and(|prefix| prefix != code);
    if let Some(rest) = after_code.filter(|rest| has_trunk && is_valid(rest, &regions)) {
        return Some(format!("{code}{rest}"));
    }
    let plain = home.national_prefix().and_then(|prefix| digits.strip_prefix(prefix));
    candidates.extend(without_trunk(home, digits).map(Cow::Owned));
    candidates.extend([plain, Some(digits)].into_iter().flatten().map(Cow::Borrowed));
    candidates.extend(after_code.map(Cow::Borrowed));
    if let Some(national) = candidates.iter().find(|it| is_valid(it, &regions)) {
        return Some(format!("{code}{national}"));
    }
    dialled_abroad(home, digits).or_else(|| valid_abroad(digits)).or_else(|| {
        best_candidate(&candidates, &regions).map(|national| format!("{code}{national}"))
    })
}

/// Returns the number behind this country's prefix for abroad.
fn dialled_abroad(home: &Metadata, digits: &str) -> Option<String> {
    let found = home.international_prefix()?.find(digits).filter(|found| found.start() == 0)?;
    international(digits.get(found.end()..)?, None)
}

/// Returns a whole number without any prefix for abroad, if its country has such a number.
fn valid_abroad(digits: &str) -> Option<String> {
    let whole = |digits: &str| {
        let (_, regions, rest) = country(digits)?;
        is_valid(rest, &regions).then(|| digits.to_owned())
    };
    whole(digits).or_else(|| whole(digits.strip_prefix("011")?))
}

/// Splits digits into their country's code, its regions, and the rest.
fn country(digits: &str) -> Option<(&str, Vec<&'static Metadata>, &str)> {
    (1..=3).find_map(|length| {
        let (code, rest) = digits.split_at_checked(length)?;
        let regions = DATABASE.by_code(&code.parse::<u16>().ok()?)?;
        (!code.starts_with('0')).then_some((code, regions, rest))
    })
}

/// Returns a national number without its domestic prefixes: a trunk prefix, a carrier's code.
fn without_trunk(region: &Metadata, number: &str) -> Option<String> {
    let Some(pattern) = region.national_prefix_for_parsing() else {
        return number.strip_prefix(region.national_prefix()?).map(str::to_owned);
    };
    let captures = pattern.captures(number)?;
    let whole = captures.get(0).filter(|found| found.start() == 0 && found.end() > 0)?;
    let rest = number.get(whole.end()..)?;
    let is_captured = captures.iter().skip(1).any(|group| group.is_some());
    match region.national_prefix_transform_rule() {
        Some(rule) if is_captured => {
            let mut own = String::new();
            captures.expand(rule, &mut own);
            Some(format!("{own}{rest}"))
        }
        _ => Some(rest.to_owned()),
    }
}

/// Returns the first number that one of the regions has, else the first that it could have.
fn best_candidate<'c>(candidates: &'c [Cow<'_, str>], regions: &[&Metadata]) -> Option<&'c str> {
    let valid = candidates.iter().find(|number| is_valid(number, regions));
    let found = valid.or_else(|| candidates.iter().find(|number| is_possible(number, regions)));
    found.map(|number| &**number)
}

/// Returns true if it has the general form and a valid length of the country's numbers. In a country with
/// trunk zeros no number has a leading zero abroad.
fn is_possible(number: &str, regions: &[&Metadata]) -> bool {
    regions.iter().any(|region| {
        let has_length = kinds(region).any(|kind| {
            kind.possible_length().iter().any(|length| usize::from(*length) == number.len())
        });
        let has_trunk_zero = region.national_prefix() == Some("0") && number.starts_with('0');
        has_length && !has_trunk_zero && has_form(region.descriptors().general(), number)
    })
}

/// Returns the kinds of numbers that a region has.
fn kinds(region: &Metadata) -> impl Iterator<Item = &Descriptor> {
    let all = region.descriptors();
    let kinds = [
        all.fixed_line(),
        all.mobile(),
        all.toll_free(),
        all.premium_rate(),
        all.shared_cost(),
        all.personal_number(),
        all.voip(),
        all.pager(),
        all.uan(),
        all.voicemail(),
    ];
    kinds.into_iter().flatten()
}

/// Returns true if it is a number of one of a region's kinds.
fn is_valid(number: &str, regions: &[&Metadata]) -> bool {
    regions.iter().any(|region| {
        has_form(region.descriptors().general(), number)
            && kinds(region).any(|kind| has_form(kind, number))
    })
}

/// Returns true if the whole number has the descriptor's form.
fn has_form(descriptor: &Descriptor, number: &str) -> bool {
    descriptor.is_match(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at_home(text: &str, home: &str) -> Option<String> {
        let home = HomeCountry::of(home);
        assert!(home.is_some());
        read(text, home.as_ref())
    }

    #[test]
    fn numbers_are_read_as_people_and_address_books_write_them() {
        for (text, digits) in [
            ("+49 30 901820", "4930901820"),
            ("+49 (0)30 901820", "4930901820"),
            ("+49(0)30901820", "4930901820"),
            ("+49 [0] 30 901820", "4930901820"),
            ("+49 030 901820", "4930901820"),
            ("+44 (0) 20 7946 0958", "442079460958"),
            ("(+49) 30 901820", "4930901820"),
            ("tel:+49-30-901820", "4930901820"),
            ("tel:%2B49-30-901820", "4930901820"),
            ("tel:30-901820;phone-context=+49", "4930901820"),
            ("\u{202a}+49 30 901820\u{202c}", "4930901820"),
            (
                "\u{ff0b}\u{ff14}\u{ff19} \u{ff13}\u{ff10} \u{ff19}\u{ff10}\u{ff11}\u{ff18}\u{ff12}\u{ff10}",
                "4930901820",
            ),
            (
                "+\u{669}\u{667}\u{661} \u{665}\u{660} \u{661}\u{662}\u{663} \u{664}\u{665}\u{666}\u{667}",
                "971501234567",
            ),
            ("+1 650 555 1212 ext. 99", "16505551212"),
            ("+1 (650) 555-1212 x99", "16505551212"),
            ("+1-650-555-1212;ext=99", "16505551212"),
            ("+1 650 555 1212 #99", "16505551212"),
            ("'+4930901820", "4930901820"),
            ("0049 (0)30 901820", "4930901820"),
            ("+0049 30 901820", "4930901820"),
            ("+49 +49 30 901820", "4930901820"),
            ("+49 0049 30 901820", "4930901820"),
            ("+49 49 30 901820", "4930901820"),
            ("+49 (49) (0)30 901820", "4930901820"),
            ("+49 4921 901820", "494921901820"),
            ("tel://+49-30-901820", "4930901820"),
            ("+1 650 555 1212;99", "16505551212"),
            ("+41 79 123 45 67 (mobile)", "41791234567"),
            ("41791234567.0", "41791234567"),
            ("+972 (0)50-123-4567", "972501234567"),
            ("+1 555 123 4567", "15551234567"),
            ("Tel.: +49 30 901820", "4930901820"),
            ("+49 30 901820 / +49 171 1234567", "4930901820"),
            ("+39 (0)2 36618300", "390236618300"),
            ("+39 02 36618300", "390236618300"),
            ("16505551212", "16505551212"),
            ("41791234567", "41791234567"),
            ("+7 (8) 495 123-45-67", "74951234567"),
        ] {
            assert_eq!(read(text, None).as_deref(), Some(digits), "{text:?}");
        }
    }

    #[test]
    fn read_uses_the_home_country_for_national_numbers() {
        for (text, home, digits) in [
            ("030 901820", "DE", "4930901820"),
            ("030 901820", "49", "4930901820"),
            ("4930901820", "49", "4930901820"),
            ("(650) 555-1212", "1", "16505551212"),
            ("1 650 555 1212", "US", "16505551212"),
            ("+44 20 7946 0958", "1", "442079460958"),
            ("011 49 30 901820", "US", "4930901820"),
            ("011 49 30 901820", "DE", "4930901820"),
            ("0011 49 30 901820", "AU", "4930901820"),
            ("079 123 45 67", "41", "41791234567"),
            ("79 123 45 67", "ch", "41791234567"),
            ("8 (495) 123-45-67", "RU", "74951234567"),
            ("02 36618300", "IT", "390236618300"),
            ("612 345 678", "ES", "34612345678"),
            ("34 612 345 678", "ES", "34612345678"),
            ("+39 333 123 4567", "DE", "393331234567"),
            ("0 (30) 901820", "DE", "4930901820"),
        ] {
            assert_eq!(at_home(text, home).as_deref(), Some(digits), "{text:?} {home}");
        }
        assert_eq!(HomeCountry::of("XX"), None);
        assert_eq!(HomeCountry::of("999"), None);
    }

    #[test]
    fn read_refuses_impossible_numbers() {
        for text in [
            "",
            "none",
            "+",
            "+49",
            "000",
            "+41 (0)79 123",
            "+4144CALLNOW",
            "6505551212",
            "079 123 45 67",
            "2025550123",
            "+0441234567",
            "+1 650 555",
            "+999 123456789",
            "+49 30 901820 +41",
            "jo@x.example",
            "2026-11-30",
            "+1 650 555 1212 1212 1212",
            "12345",
            "+1 155 123 4567",
            "0000000000",
        ] {
            assert_eq!(read(text, None), None, "{text:?}");
        }
        assert_eq!(read(&"1".repeat(1000), None), None);
        assert_eq!(at_home("1", "DE"), None);
    }

    #[test]
    fn reader_caches_numbers_by_text_and_country() {
        let reader = TelephoneReader::default();
        let swiss = Some("41791234567");
        let written = "079 123 45 67";
        assert_eq!(reader.digits(written, Some("ch"), None).as_deref(), swiss);
        assert_eq!(reader.digits(written, None, Some("CH")).as_deref(), swiss);
        assert_eq!(reader.digits(written, None, None), None);
        let own = TelephoneReader::new(HomeCountry::of("41"));
        assert_eq!(own.digits(written, None, Some("DE")).as_deref(), swiss);
        assert_eq!(own.digits("030 901820", Some("DE"), None).as_deref(), Some("4930901820"));
        assert_eq!(own.digits(written, Some("Germany"), None).as_deref(), swiss);
    }

    /// Returns the examples of each country: its id, its calling code and the national number.
    fn examples() -> Vec<(String, u16, String)> {
        let mut found = Vec::new();
        for region in DATABASE.iter().filter(|it| it.id() != "001") {
            let all = region.descriptors();
            for kind in [all.mobile(), all.fixed_line()].into_iter().flatten() {
                let example = kind.example().unwrap_or_default();
                if has_form(all.general(), example) {
                    found.push((region.id().to_owned(), region.country_code(), example.to_owned()));
                }
            }
        }
        found.sort();
        found
    }

    /// Writes a number in groups of three, as on a business card.
    fn spaced(digits: &str, between: &str) -> String {
        let digits: Vec<char> = digits.chars().collect();
        digits
            .chunks(3)
            .map(|part| part.iter().collect::<String>())
            .collect::<Vec<_>>()
            .join(between)
    }

    #[test]
    fn read_accepts_the_examples_of_all_countries_in_every_notation() {
        let mut wrong = Vec::new();
        let mut countries = std::collections::BTreeSet::new();
        for (id, code, number) in examples() {
            countries.insert(id.clone());
            let expected = format!("{code}{number}");
            let region = DATABASE.by_id(&id).unwrap();
            let home = HomeCountry::of(&id);
            let mut forms = vec![
                (format!("+{code}{number}"), None),
                (format!("+{code} {}", spaced(&number, " ")), None),
                (format!("00{code} {}", spaced(&number, "-")), None),
                (format!("(+{code}) {}", spaced(&number, ".")), home.clone()),
                (format!("tel:+{code}-{}", spaced(&number, "-")), None),
                (format!("\u{202a}+{code} {number}\u{202c}"), None),
                (format!("+{code} {number} ext. 12"), None),
                (spaced(&number, " "), home.clone()),
            ];
            if region.national_prefix() == Some("0") {
                forms.push((format!("+{code} (0){}", spaced(&number, " ")), None));
                forms.push((format!("0{number}"), home.clone()));
            }
            for (text, home) in forms {
                let found = read(&text, home.as_ref());
                if found.as_deref() != Some(&*expected) {
                    wrong.push(format!("{id} {text:?} {:?} {found:?} {expected}", home.is_some()));
                }
            }
        }
        assert!(countries.len() > 200, "{}", countries.len());
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_not(text in "[+(]?[0-9 ()./x;+\u{200b}-]{0,24}", home in proptest::sample::select(&["DE", "US", "AR", "IT", "BR", "RU"][..])) {
            if let Some(digits) = read(&text, HomeCountry::of(home).as_ref()) {
                prop_assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
                prop_assert_eq!(read(&format!("+{digits}"), None), Some(digits));
            }
        }
    }
}
