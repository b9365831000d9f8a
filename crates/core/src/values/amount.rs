//! Reader of amounts as shops format them.
//!
//! JSON numbers are taken as they are. In a text, digits may be grouped by `,` `.` `'` or spaces; of two
//! kinds of sign the last is the decimal one; a kind that occurs several times groups. One sign with
//! exactly three digits behind it is ambiguous: the site's locale decides, and without one it groups.
//! Signs and codes of currencies may stand on either side, and name the currency.

use serde_json::{Number, Value};

use super::currency::{self, CurrencyMark};
use super::locale::{DecimalSign, NumberLocale};
use super::{ParsedValue, unicode};

/// The longest text that is read as an amount.
const MAX_CHARS: usize = 64;

/// An amount, with the currency that stands beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct MoneyAmount {
    /// The amount as a number.
    pub number: Number,
    /// The sign or code beside it.
    pub currency: Option<CurrencyMark>,
}

/// Reads an amount: a number, or a text in the notation of the locale.
pub fn read(value: Option<&Value>, locale: Option<NumberLocale>) -> ParsedValue<MoneyAmount> {
    read_in(value, locale, None)
}

/// Reads an amount in this currency, where that is known: some have three decimals.
pub fn read_in(
    value: Option<&Value>,
    locale: Option<NumberLocale>,
    currency: Option<&str>,
) -> ParsedValue<MoneyAmount> {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => ParsedValue::Absent,
        // PHP's empty array means no value.
        Some(Value::Array(list)) if list.is_empty() => ParsedValue::Absent,
        Some(Value::Number(number)) => {
            ParsedValue::Read(MoneyAmount { number: number.clone(), currency: None })
        }
        Some(Value::String(text)) if text.trim().is_empty() => ParsedValue::Absent,
        Some(Value::String(text)) => {
            parse_in(text, locale, currency).map_or(ParsedValue::Unreadable, ParsedValue::Read)
        }
        Some(_) => ParsedValue::Unreadable,
    }
}

/// Reads a text as an amount.
pub fn parse(text: &str, locale: Option<NumberLocale>) -> Option<MoneyAmount> {
    parse_in(text, locale, None)
}

fn parse_in(text: &str, locale: Option<NumberLocale>, known: Option<&str>) -> Option<MoneyAmount> {
    if text.len() > 4 * MAX_CHARS || text.chars().count() > MAX_CHARS {
        return None;
    }
    let text: String = text.chars().filter(|c| !unicode::is_invisible(*c)).map(plain).collect();
    let text = text.trim();
    if let Some(number) = scientific(text) {
        return Some(MoneyAmount { number, currency: None });
    }
    let (before, digits, behind) = parts(text)?;
    let (is_negative, before, behind) = signs(before, behind)?;
    let currency = match (marks(before)?, marks(behind)?) {
        (Some(one), Some(other)) => Some(one.intersect(other)?),
        (one, other) => one.or(other),
    };
    let code = currency.and_then(|mark| mark.code(None)).or(known);
    let decimals = code.map(currency::decimals);
    let plain = numeral(digits, locale, decimals)?;
    let number = number(&plain, is_negative)?;
    Some(MoneyAmount { number, currency })
}

/// Normalises a character: ASCII digits, one kind of space, of apostrophe, of minus.
fn plain(c: char) -> char {
    match c {
        ' ' | '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\t' => {
            ' '
        }
        '\'' | '\u{2019}' | '\u{2018}' | '\u{2bc}' | '\u{b4}' | '`' | '\u{2032}' => '\'',
        '-' | '\u{2212}' | '\u{2010}'..='\u{2014}' | '\u{fe63}' | '\u{ff0d}' => '-',
        '\u{ff0c}' | '\u{3001}' => ',',
        '\u{ff0e}' => '.',
        '\u{ff0b}' => '+',
        '\u{ff08}' => '(',
        '\u{ff09}' => ')',
        '\u{ff04}' => '$',
        // Arabic has its own signs for decimals and for groups.
        ARABIC_DECIMAL => ARABIC_DECIMAL,
        '\u{66c}' => '\'',
        c => unicode::ascii_digit(c),
    }
}

const ARABIC_DECIMAL: char = '\u{66b}';

/// Reads `1.5e3`, as programs print numbers.
fn scientific(text: &str) -> Option<Number> {
    let is_number = text.contains(['e', 'E'])
        && text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'));
    is_number.then(|| text.parse::<f64>().ok().and_then(Number::from_f64))?
}

/// Splits a text into its numeral and the texts before and behind it.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let first = text.find(|c: char| c.is_ascii_digit())?;
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let before = text.get(..first)?;
    // A decimal sign may come first (".99"), if it does not end a word ("Rs.99").
    let start = match before.char_indices().next_back() {
        Some((at, '.' | ',' | ARABIC_DECIMAL)) => {
            let is_of_word = before.get(..at)?.ends_with(|c: char| c.is_alphabetic() || c == '/');
            if is_of_word { first } else { at }
        }
        _ => first,
    };
    let behind = text.get(end..)?;
    // "5.-", "5,--": no cents.
    let shorn = behind.strip_prefix(['.', ',']).map(|rest| rest.trim_start_matches('-'));
    Some((text.get(..start)?, text.get(start..end)?, shorn.unwrap_or(behind)))
}

/// Returns true for a negative amount, with the texts around it without their plus or minus signs.
fn signs<'t>(before: &'t str, behind: &'t str) -> Option<(bool, &'t str, &'t str)> {
    let (before, behind) = (before.trim(), behind.trim());
    let (opens, closes) = (before.contains('('), behind.contains(')'));
    // An accountant's brackets, unless they hold the currency alone.
    if opens && closes && !before.contains(')') && !behind.contains('(') {
        let before = before.trim_start_matches('(').trim_end_matches('(').trim();
        let behind = behind.trim_end_matches(')').trim_start_matches(')').trim();
        return Some((true, before, behind));
    }
    for sign in ['-', '+'] {
        let led = before.strip_prefix(sign).or_else(|| before.strip_suffix(sign));
        if let Some(before) = led {
            return Some((sign == '-', before.trim(), behind));
        }
        let followed = behind.strip_prefix(sign).or_else(|| behind.strip_suffix(sign));
        if let Some(behind) = followed {
            return Some((sign == '-', before, behind.trim()));
        }
    }
    Some((false, before, behind))
}

/// Reads the currency beside the numeral: `Some(None)` if there is no text, `None` for another text.
fn marks(text: &str) -> Option<Option<CurrencyMark>> {
    let text = text.trim().trim_matches(['(', ')', ':']).trim();
    if text.is_empty() {
        return Some(None);
    }
    CurrencyMark::of(text).map(Some)
}

/// Returns the numeral as Rust writes numbers: no groups, a point before the decimals.
fn numeral(text: &str, locale: Option<NumberLocale>, decimals: Option<u16>) -> Option<String> {
    let signs: Vec<(usize, char)> =
        text.char_indices().filter(|(_, c)| !c.is_ascii_digit()).collect();
    if !signs.iter().all(|(_, c)| matches!(c, '.' | ',' | '\'' | ' ' | &ARABIC_DECIMAL)) {
        return None;
    }
    let Some((last_at, last)) = signs.last().copied() else { return Some(text.to_owned()) };
    let count = signs.iter().filter(|(_, c)| *c == last).count();
    let has_two_kinds = count < signs.len();
    let (whole, rest) = text.split_at_checked(last_at)?;
    let behind = rest.get(last.len_utf8()..)?;
    let is_decimal = match last {
        ARABIC_DECIMAL => true,
        '.' | ',' if has_two_kinds => true,
        '.' | ',' if count == 1 => is_decimal_sign(last, whole, behind, locale, decimals),
        _ => false,
    };
    if !is_decimal {
        // The only kind of sign groups, and no digits follow the point.
        return if has_two_kinds { None } else { ungrouped(text, last) };
    }
    let whole = match signs.first() {
        Some((at, group)) if *at < last_at && *group != last => ungrouped(whole, *group)?,
        Some((at, _)) if *at < last_at => return None,
        _ => whole.to_owned(),
    };
    let whole = if whole.is_empty() { "0" } else { &whole };
    Some(format!("{whole}.{behind}"))
}

/// Returns true if a single point or comma is a decimal sign. With three digits behind it may be either.
fn is_decimal_sign(
    sign: char,
    whole: &str,
    behind: &str,
    locale: Option<NumberLocale>,
    decimals: Option<u16>,
) -> bool {
    let may_group = behind.len() == 3 && (1..=3).contains(&whole.len()) && !whole.starts_with('0');
    if !may_group {
        return true;
    }
    match locale.map(|locale| locale.decimal) {
        Some(DecimalSign::Point) => sign == '.',
        Some(DecimalSign::Comma) => sign == ',',
        // A dinar has a thousand fils, so three decimals.
        None => decimals == Some(3),
    }
}

/// Removes the signs between groups of digits: groups of three, or as in India of two before the last.
fn ungrouped(text: &str, sign: char) -> Option<String> {
    let groups: Vec<&str> = text.split(sign).collect();
    let (first, rest) = groups.split_first()?;
    let (last, between) = match rest.split_last() {
        Some(split) => split,
        None => return Some(text.to_owned()),
    };
    let is_digits = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_digit()));
    let of_three = (1..=3).contains(&first.len()) && between.iter().all(|group| group.len() == 3);
    let of_two = (1..=2).contains(&first.len()) && between.iter().all(|group| group.len() == 2);
    (is_digits && last.len() == 3 && (of_three || of_two)).then(|| groups.concat())
}

fn number(plain: &str, is_negative: bool) -> Option<Number> {
    if let Ok(whole) = plain.parse::<i64>() {
        return Some(Number::from(if is_negative { -whole } else { whole }));
    }
    let float = plain.parse::<f64>().ok()?;
    Number::from_f64(if is_negative && float != 0.0 { -float } else { float })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> Option<f64> {
        parse(text, None)?.number.as_f64()
    }

    fn of_locale(text: &str, locale: &str) -> Option<f64> {
        parse(text, Some(locale.parse().unwrap()))?.number.as_f64()
    }

    #[test]
    fn amounts_are_read_as_shops_format_them() {
        for (text, amount) in [
            ("1299.00", 1299.0),
            ("1,299.00", 1299.0),
            ("1,000", 1000.0),
            ("1,234,567.89", 1_234_567.89),
            (".99", 0.99),
            ("+9.50", 9.5),
            ("$49.90", 49.9),
            ("49.90 EUR", 49.9),
            ("59,90", 59.9),
            ("1.299,00", 1299.0),
            ("1'299.00", 1299.0),
            ("1’299.00", 1299.0),
            ("1\u{202f}299,00", 1299.0),
            ("1\u{a0}299,00 €", 1299.0),
            ("0099.50", 99.5),
            ("1,23,456.78", 123_456.78),
            ("12,34,567", 1_234_567.0),
            ("1.234.567", 1_234_567.0),
            ("1 299", 1299.0),
            ("1.299", 1299.0),
            ("0.125", 0.125),
            ("0,125", 0.125),
            (",5", 0.5),
            ("1234.567", 1234.567),
            ("12.5", 12.5),
            ("9.9900", 9.99),
            ("1299", 1299.0),
            ("١٬٢٩٩٫٥٠", 1299.5),
            ("۱۲۹۹", 1299.0),
            ("１２９９．５０", 1299.5),
            ("1e3", 1000.0),
            ("5.-", 5.0),
            ("CHF 5.–", 5.0),
            ("Rs.500", 500.0),
            ("Rs. 1,500.50", 1500.5),
            ("Fr. 12.50", 12.5),
            ("S/.20", 20.0),
            ("US$ 20.00", 20.0),
            ("R$ 1.299,90", 1299.9),
            ("EUR49.90", 49.9),
            ("49,90€", 49.9),
            ("\u{200e}$5.00", 5.0),
            ("12.500 KWD", 12.5),
            ("€ 12.500", 12500.0),
            ("1 299,000", 1299.0),
        ] {
            assert_eq!(of(text), Some(amount), "{text}");
        }
    }

    #[test]
    fn parse_reads_negative_amounts_in_several_notations() {
        for text in [
            "-5",
            "(5.00)",
            "−5",
            "5-",
            "-$5.00",
            "$-5",
            "($5.00)",
            "- 5,00 €",
            "5,00- €",
            "-5.00 EUR",
            "($5)",
            "(5.00 EUR)",
        ] {
            assert_eq!(of(text), Some(-5.0), "{text}");
        }
        assert_eq!(of("5.00 (EUR)"), Some(5.0), "brackets of the currency");
        assert_eq!(of("-0"), Some(0.0));
    }

    #[test]
    fn read_reports_other_texts_as_unreadable() {
        for text in [
            "nine",
            "-",
            "12 apples",
            "5%",
            "1,2,3",
            "1.2.3",
            "59 90",
            "1,299 000",
            "1.299,000,00",
            "1,299.000.00",
            "12:30",
            "5 EUR 6",
            "1/2",
            "NaN",
            "null",
            "5 USD EUR",
            "€5 USD",
            "0x10",
            "1e999",
            "1__0",
            "''",
            "1,,000",
            "1 234'567.00",
            "2026-11-30",
        ] {
            assert_eq!(parse(text, None), None, "{text}");
        }
        assert_eq!(read(Some(&json!("nine")), None), ParsedValue::Unreadable);
        assert_eq!(read(Some(&json!(true)), None), ParsedValue::Unreadable);
        assert_eq!(read(Some(&json!(" ")), None), ParsedValue::Absent);
        assert_eq!(read(None, None), ParsedValue::Absent);
        assert_eq!(parse(&"9".repeat(99), None), None);
    }

    #[test]
    fn locale_decides_over_three_digits_behind_one_sign() {
        for (text, locale, amount) in [
            ("1,299", "en", 1299.0),
            ("1,299", "de", 1.299),
            ("1.299", "de", 1299.0),
            ("1.299", "en", 1.299),
            ("1.299", "de-CH", 1.299),
            ("1,299", "fr", 1.299),
            ("1.299,00", "en", 1299.0),
            ("59,90", "en", 59.9),
            ("1.299", "es-MX", 1.299),
            ("1.299", "pt-BR", 1299.0),
        ] {
            assert_eq!(of_locale(text, locale), Some(amount), "{text} {locale}");
        }
    }

    #[test]
    fn signs_and_codes_name_the_currency() {
        for (text, code) in [
            ("£10", Some("GBP")),
            ("10 EUR", Some("EUR")),
            ("US$10", Some("USD")),
            ("$10 USD", Some("USD")),
            ("10", None),
            ("zł 10", Some("PLN")),
        ] {
            let amount = parse(text, None).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(amount.currency.and_then(|mark| mark.code(None)), code, "{text}");
        }
        assert_eq!(parse("$10", None).unwrap().currency.unwrap().code(Some("CAD")), Some("CAD"));
    }

    /// The notations of twelve locales: the group sign, the decimal sign, and true if the groups are India's.
    const NOTATIONS: [(&str, &str, &str, bool); 12] = [
        ("en", ",", ".", false),
        ("de", ".", ",", false),
        ("de-CH", "’", ".", false),
        ("fr", "\u{202f}", ",", false),
        ("sv", "\u{a0}", ",", false),
        ("es-MX", ",", ".", false),
        ("pt-BR", ".", ",", false),
        ("pl", " ", ",", false),
        ("hi", ",", ".", true),
        ("ja", ",", ".", false),
        ("it", ".", ",", false),
        ("ru", "\u{a0}", ",", false),
    ];

    fn grouped(whole: u64, sign: &str, is_indian: bool) -> String {
        let digits = whole.to_string();
        let (mut out, size) = (String::new(), digits.len());
        for (at, digit) in digits.chars().enumerate() {
            let left = size - at;
            let is_border =
                if is_indian { left == 3 || (left > 3 && left % 2 == 1) } else { left % 3 == 0 };
            if at > 0 && is_border {
                out.push_str(sign);
            }
            out.push(digit);
        }
        out
    }

    proptest! {
        #[test]
        fn parse_reads_the_notation_of_each_locale(
            whole in 0_u64..100_000_000_000, cents in 0_u64..100, (locale, group, decimal, is_indian) in proptest::sample::select(&NOTATIONS[..]),
            has_cents in any::<bool>(), is_negative in any::<bool>(), mark in proptest::sample::select(&["", "€", "EUR", "US$", "CHF ", "zł"][..]), leads in any::<bool>(),
        ) {
            let mut text = grouped(whole, group, is_indian);
            if has_cents {
                text = format!("{text}{decimal}{cents:02}");
            }
            if leads { text = format!("{mark}{text}") } else { text = format!("{text} {mark}") };
            if is_negative { text = format!("-{text}") };
            let cents = if has_cents { cents } else { 0 };
            let plain: f64 = format!("{}{whole}.{cents:02}", if is_negative { "-" } else { "" }).parse().unwrap();
            prop_assert_eq!(of_locale(&text, locale), Some(if plain == 0.0 { 0.0 } else { plain }), "{}", text);
        }

        #[test]
        fn parse_accepts_any_text_without_panic(text in "[-+(]?[$€£]?[0-9., '\u{a0}]{0,12}[-)%a-z€]{0,3}") {
            let _either = parse(&text, None);
        }
    }
}
