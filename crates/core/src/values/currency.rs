//! Reader of currencies as shops write them: ISO 4217 letters in any case, ISO 4217 numbers, signs, words.
//!
//! A sign that several countries use (`$`, `kr`, `¥`) is read as the store's currency if that is one of
//! them, and otherwise is unreadable.

use std::collections::HashMap;
use std::sync::LazyLock;

use iso_currency::{Currency, IntoEnumIterator};
use serde_json::Value;

use super::{ParsedValue, unicode};

/// The longest text that is read as a currency: the longest names of ISO 4217 have 40 letters.
const MAX_CHARS: usize = 64;

/// Texts of broken tags that stand for no currency.
const NO_CURRENCY_TEXTS: [&str; 7] = ["null", "undefined", "none", "nil", "n/a", "(not set)", "-"];

/// The currencies of countries whose unit is written `$`, after the currencies with dollar in their name.
const DOLLARS: &[&str] = &[
    "USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "BSD", "BBD", "BZD", "BMD", "BND", "KYD",
    "XCD", "FJD", "GYD", "JMD", "LRD", "NAD", "SBD", "SRD", "TTD",
];
const DOLLAR_SIGN: &[&str] = &[
    "USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "BSD", "BBD", "BZD", "BMD", "BND", "KYD",
    "XCD", "FJD", "GYD", "JMD", "LRD", "NAD", "SBD", "SRD", "TTD", "MXN", "ARS", "CLP", "COP",
    "UYU", "DOP", "CUP", "BRL", "MOP",
];
const KRONER: &[&str] = &["SEK", "NOK", "DKK", "ISK"];
const RUPEES: &[&str] = &["INR", "PKR", "LKR", "NPR", "MUR", "SCR", "IDR"];
const PESOS: &[&str] = &["MXN", "ARS", "CLP", "COP", "PHP", "UYU", "DOP", "CUP"];
const FRANCS: &[&str] = &["CHF", "XOF", "XAF", "XPF", "CDF", "RWF", "BIF", "DJF", "GNF", "KMF"];
const DINARS: &[&str] = &["KWD", "BHD", "JOD", "IQD", "LYD", "TND", "DZD", "RSD", "MKD"];
const RIYALS: &[&str] = &["SAR", "QAR", "OMR", "YER", "IRR"];

/// Signs and words, in lower case, and the currencies that each may mean.
const MARKS: &[(&str, &[&str])] = &[
    ("€", &["EUR"]),
    ("euro", &["EUR"]),
    ("eur.", &["EUR"]),
    ("евро", &["EUR"]),
    ("ευρώ", &["EUR"]),
    ("£", &["GBP"]),
    ("₤", &["GBP"]),
    ("gb£", &["GBP"]),
    ("uk£", &["GBP"]),
    ("pound", &["GBP"]),
    ("sterling", &["GBP"]),
    ("pound sterling", &["GBP"]),
    ("british pound", &["GBP"]),
    ("british pound sterling", &["GBP"]),
    ("uk pound", &["GBP"]),
    ("quid", &["GBP"]),
    ("$", DOLLAR_SIGN),
    ("dollar", DOLLARS),
    ("us$", &["USD"]),
    ("$us", &["USD"]),
    ("u$s", &["USD"]),
    ("us dollar", &["USD"]),
    ("u.s. dollar", &["USD"]),
    ("american dollar", &["USD"]),
    ("usd$", &["USD"]),
    ("$usd", &["USD"]),
    ("c$", &["CAD"]),
    ("ca$", &["CAD"]),
    ("can$", &["CAD"]),
    ("a$", &["AUD"]),
    ("au$", &["AUD"]),
    ("nz$", &["NZD"]),
    ("s$", &["SGD"]),
    ("sg$", &["SGD"]),
    ("hk$", &["HKD"]),
    ("nt$", &["TWD"]),
    ("mx$", &["MXN"]),
    ("mex$", &["MXN"]),
    ("r$", &["BRL"]),
    ("real", &["BRL"]),
    ("reais", &["BRL"]),
    ("ar$", &["ARS"]),
    ("cl$", &["CLP"]),
    ("col$", &["COP"]),
    ("peso", PESOS),
    ("¥", &["JPY", "CNY"]),
    ("￥", &["JPY", "CNY"]),
    ("jp¥", &["JPY"]),
    ("cn¥", &["CNY"]),
    ("円", &["JPY"]),
    ("yen", &["JPY"]),
    ("元", &["CNY", "TWD", "HKD"]),
    ("人民币", &["CNY"]),
    ("yuan", &["CNY"]),
    ("rmb", &["CNY"]),
    ("renminbi", &["CNY"]),
    ("₹", &["INR"]),
    ("₨", RUPEES),
    ("rs", RUPEES),
    ("rs.", RUPEES),
    ("rupee", RUPEES),
    ("indian rupee", &["INR"]),
    ("रु", &["INR", "NPR"]),
    ("fr", FRANCS),
    ("fr.", FRANCS),
    ("franc", FRANCS),
    ("sfr", &["CHF"]),
    ("sfr.", &["CHF"]),
    ("franken", &["CHF"]),
    ("schweizer franken", &["CHF"]),
    ("kr", KRONER),
    ("kr.", KRONER),
    ("krona", &["SEK", "ISK"]),
    ("kronor", &["SEK"]),
    ("krone", &["NOK", "DKK"]),
    ("kroner", &["NOK", "DKK"]),
    ("skr", &["SEK"]),
    ("nkr", &["NOK"]),
    ("dkr", &["DKK"]),
    ("zł", &["PLN"]),
    ("zl", &["PLN"]),
    ("złoty", &["PLN"]),
    ("zloty", &["PLN"]),
    ("złotych", &["PLN"]),
    ("kč", &["CZK"]),
    ("kc", &["CZK"]),
    ("koruna", &["CZK"]),
    ("ft", &["HUF"]),
    ("forint", &["HUF"]),
    ("lei", &["RON", "MDL"]),
    ("leu", &["RON", "MDL"]),
    ("лв", &["BGN"]),
    ("лв.", &["BGN"]),
    ("₽", &["RUB"]),
    ("руб", &["RUB"]),
    ("руб.", &["RUB"]),
    ("рублей", &["RUB"]),
    ("rouble", &["RUB", "BYN"]),
    ("ruble", &["RUB", "BYN"]),
    ("₴", &["UAH"]),
    ("грн", &["UAH"]),
    ("грн.", &["UAH"]),
    ("hryvnia", &["UAH"]),
    ("₺", &["TRY"]),
    ("tl", &["TRY"]),
    ("lira", &["TRY"]),
    ("₪", &["ILS"]),
    ("shekel", &["ILS"]),
    ("nis", &["ILS"]),
    ("₩", &["KRW"]),
    ("￦", &["KRW"]),
    ("won", &["KRW", "KPW"]),
    ("원", &["KRW"]),
    ("฿", &["THB"]),
    ("baht", &["THB"]),
    ("บาท", &["THB"]),
    ("₫", &["VND"]),
    ("đ", &["VND"]),
    ("dong", &["VND"]),
    ("₱", &["PHP"]),
    ("rp", &["IDR"]),
    ("rp.", &["IDR"]),
    ("rupiah", &["IDR"]),
    ("rm", &["MYR"]),
    ("ringgit", &["MYR"]),
    ("₦", &["NGN"]),
    ("naira", &["NGN"]),
    ("₵", &["GHS"]),
    ("gh₵", &["GHS"]),
    ("cedi", &["GHS"]),
    ("ksh", &["KES"]),
    ("ksh.", &["KES"]),
    ("r", &["ZAR"]),
    ("rand", &["ZAR"]),
    ("₡", &["CRC"]),
    ("₲", &["PYG"]),
    ("s/", &["PEN"]),
    ("s/.", &["PEN"]),
    ("bs", &["BOB", "VES"]),
    ("bs.", &["BOB", "VES"]),
    ("₸", &["KZT"]),
    ("₾", &["GEL"]),
    ("₼", &["AZN"]),
    ("֏", &["AMD"]),
    ("৳", &["BDT"]),
    ("taka", &["BDT"]),
    ("₭", &["LAK"]),
    ("₮", &["MNT"]),
    ("៛", &["KHR"]),
    ("dirham", &["AED", "MAD"]),
    ("د.إ", &["AED"]),
    ("ر.س", &["SAR"]),
    ("﷼", RIYALS),
    ("riyal", RIYALS),
    ("dinar", DINARS),
    ("din", &["RSD"]),
    ("din.", &["RSD"]),
    ("د.ك", &["KWD"]),
    ("₣", FRANCS),
];

/// The currencies that a sign, a code or a word may mean: only one if it is unambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrencyMark(CurrencyCodes);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CurrencyCodes {
    One(&'static str),
    AnyOf(&'static [&'static str]),
}

impl CurrencyMark {
    /// Reads a text as a mark: `EUR`, `€`, `euros`, `978`, `GBP £`. `None` for any other text.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(code) = code(text) {
            return Some(Self(CurrencyCodes::One(code)));
        }
        if text.is_empty() || text.len() > 4 * MAX_CHARS || text.chars().count() > MAX_CHARS {
            return None;
        }
        let text = unicode::visible(text);
        let text = unicode::plain_forms(&text).to_lowercase();
        let text = text.trim_matches(|c: char| c.is_whitespace() || ";,:'\"".contains(c));
        let words = text.split(|c: char| c.is_whitespace() || matches!(c, '-' | '_'));
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let (joined, whole) = (words.join(" "), words.concat());
        let found = Self::word(&joined).or_else(|| Self::word(&whole));
        found.or_else(|| Self::word(joined.strip_suffix('.')?)).or_else(|| {
            let is_between = |c: char| {
                c.is_whitespace()
                    || matches!(c, '(' | ')' | '[' | ']' | '/' | ',' | '-' | '|' | ':')
            };
            let mut marks = text.split(is_between).filter(|part| !part.is_empty()).map(Self::pair);
            let first = marks.next()??;
            marks.try_fold(first, |known, mark| known.intersect(mark?))
        })
    }

    /// Reads one or two marks without a space between them: `GBP£`, `€EUR`.
    fn pair(text: &str) -> Option<Self> {
        Self::word(text).or_else(|| {
            let border =
                text.char_indices().zip(text.chars().skip(1)).find_map(|((at, c), next)| {
                    (c.is_alphabetic() != next.is_alphabetic()).then(|| at + c.len_utf8())
                })?;
            let (first, second) = text.split_at_checked(border)?;
            Self::word(first)?.intersect(Self::word(second)?)
        })
    }

    /// Reads a text in lower case as one sign, code, word or name of ISO 4217.
    fn word(text: &str) -> Option<Self> {
        if let Some(code) = code(text) {
            return Some(Self(CurrencyCodes::One(code)));
        }
        let found = |text: &str| MARKS_BY_TEXT.get(text).copied().map(Self);
        found(text).or_else(|| found(text.strip_suffix('s')?))
    }

    /// Returns the currencies that both marks mean; `None` if there are none.
    pub fn intersect(self, other: Self) -> Option<Self> {
        match (self.0, other.0) {
            (CurrencyCodes::One(one), _) => other.may_be(one).then_some(self),
            (_, CurrencyCodes::One(one)) => self.may_be(one).then_some(other),
            (one, another) => (one == another).then_some(self),
        }
    }

    fn may_be(self, code: &str) -> bool {
        match self.0 {
            CurrencyCodes::One(one) => one == code,
            CurrencyCodes::AnyOf(codes) => codes.contains(&code),
        }
    }

    /// Returns the currency's code: the store's, if the mark may mean that; else the only one it means.
    pub fn code(self, store: Option<&str>) -> Option<&'static str> {
        match self.0 {
            CurrencyCodes::One(code) => Some(code),
            CurrencyCodes::AnyOf(codes) => codes.iter().find(|code| Some(**code) == store).copied(),
        }
    }
}

/// Reads a currency. `store` is the store's own, which decides over signs of several currencies.
pub fn read(value: Option<&Value>, store: Option<&str>) -> ParsedValue<&'static str> {
    let text = match value {
        None | Some(Value::Null) => return ParsedValue::Absent,
        Some(Value::String(text)) => text.trim(),
        Some(Value::Number(number)) => {
            let numeric = number.as_u64().and_then(|number| u16::try_from(number).ok());
            let code = numeric.and_then(Currency::from_numeric).map(|it| it.code());
            return code.map_or(ParsedValue::Unreadable, ParsedValue::Read);
        }
        Some(_) => return ParsedValue::Unreadable,
    };
    let is_nothing = || {
        let shown = unicode::visible(text);
        let shown = shown.trim();
        shown.is_empty()
            || NO_CURRENCY_TEXTS.iter().any(|nothing| shown.eq_ignore_ascii_case(nothing))
    };
    match CurrencyMark::of(text).and_then(|mark| mark.code(store)) {
        Some(code) => ParsedValue::Read(code),
        None if is_nothing() => ParsedValue::Absent,
        None => ParsedValue::Unreadable,
    }
}

/// Returns the ISO 4217 code that a text is: three letters in any case, or three digits.
pub fn code(text: &str) -> Option<&'static str> {
    let mut letters: [u8; 3] = text.trim().as_bytes().try_into().ok()?;
    letters.make_ascii_uppercase();
    let text = std::str::from_utf8(&letters).ok()?;
    let found = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Currency::from_numeric(text.parse().ok()?),
        false => Currency::from_code(text),
    };
    // Metals, units of account and codes for tests are not used as money.
    found.filter(|it| !it.is_special()).map(|it| it.code())
}

/// Returns the number of decimals of a currency: its smallest unit (ISO 4217). Two where the standard
/// names none.
pub fn decimals(code: &str) -> u16 {
    Currency::from_code(code).and_then(|it| it.exponent()).unwrap_or(2)
}

/// The signs, words and names by their text; built at run time, since it is too complex for a constant.
static MARKS_BY_TEXT: LazyLock<HashMap<String, CurrencyCodes>> = LazyLock::new(|| {
    let names =
        Currency::iter().map(|it| (it.name().to_lowercase(), CurrencyCodes::One(it.code())));
    let own = MARKS.iter().map(|(mark, codes)| {
        let codes = match codes {
            [one] => CurrencyCodes::One(one),
            several => CurrencyCodes::AnyOf(several),
        };
        ((*mark).to_owned(), codes)
    });
    names.chain(own).collect()
});

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_currency_is_read_by_its_code_number_sign_or_word() {
        for (written, expected) in [
            ("EUR", "EUR"),
            (" usd ", "USD"),
            ("gbp", "GBP"),
            ("£", "GBP"),
            ("GBP £", "GBP"),
            ("£GBP", "GBP"),
            ("GBP (£)", "GBP"),
            ("pounds", "GBP"),
            ("Pound Sterling", "GBP"),
            ("826", "GBP"),
            ("036", "AUD"),
            ("US$", "USD"),
            ("$ USD", "USD"),
            ("USD$", "USD"),
            ("US Dollars", "USD"),
            ("United States dollar", "USD"),
            ("Euros", "EUR"),
            ("€", "EUR"),
            ("€ EUR", "EUR"),
            ("\u{200f}€", "EUR"),
            ("Swiss francs", "CHF"),
            ("zł", "PLN"),
            ("Kč", "CZK"),
            ("R$", "BRL"),
            ("₹", "INR"),
            ("Yen", "JPY"),
            ("CA$", "CAD"),
            ("Euro (EUR)", "EUR"),
            ("ＥＵＲ", "EUR"),
            ("'eur';", "EUR"),
            ("US $", "USD"),
            ("us-dollar", "USD"),
            ("usd.", "USD"),
            ("EUR - Euro", "EUR"),
        ] {
            assert_eq!(read(Some(&json!(written)), None), ParsedValue::Read(expected), "{written}");
        }
        assert_eq!(read(Some(&json!(978)), None), ParsedValue::Read("EUR"));
        assert_eq!(read(Some(&json!(36)), None), ParsedValue::Read("AUD"));
    }

    #[test]
    fn sign_of_several_currencies_is_the_stores_or_unreadable() {
        for (written, store, expected) in [
            ("$", Some("USD"), ParsedValue::Read("USD")),
            ("$", Some("CAD"), ParsedValue::Read("CAD")),
            ("dollars", Some("AUD"), ParsedValue::Read("AUD")),
            ("$", Some("EUR"), ParsedValue::Unreadable),
            ("$", None, ParsedValue::Unreadable),
            ("kr", Some("NOK"), ParsedValue::Read("NOK")),
            ("¥", Some("CNY"), ParsedValue::Read("CNY")),
            ("£", Some("EUR"), ParsedValue::Read("GBP")),
        ] {
            assert_eq!(read(Some(&json!(written)), store), expected, "{written} {store:?}");
        }
    }

    #[test]
    fn read_separates_absent_from_unreadable_currencies() {
        for nothing in [
            json!(""),
            json!("  "),
            json!("\u{200b}"),
            json!("undefined"),
            json!("NULL"),
            json!(null),
        ] {
            assert_eq!(read(Some(&nothing), Some("EUR")), ParsedValue::Absent, "{nothing}");
        }
        assert_eq!(read(None, Some("EUR")), ParsedValue::Absent);
        for unreadable in [
            json!("points"),
            json!("GBP EUR"),
            json!("XYZ"),
            json!("XTS"),
            json!("???"),
            json!(7777),
            json!(["EUR"]),
            json!(true),
            json!("€".repeat(99)),
        ] {
            assert_eq!(
                read(Some(&unreadable), Some("EUR")),
                ParsedValue::Unreadable,
                "{unreadable}"
            );
        }
    }

    #[test]
    fn marks_and_decimals_match_iso_4217() {
        for (mark, codes) in MARKS {
            assert_eq!(&mark.to_lowercase(), mark);
            assert!(codes.iter().all(|it| code(it) == Some(it)), "{mark}");
        }
        for (code, digits) in [
            ("EUR", 2),
            ("JPY", 0),
            ("KWD", 3),
            ("CLF", 4),
            ("UGX", 0),
            ("ISK", 0),
            ("UYW", 4),
            ("MGA", 2),
            ("MRU", 2),
            ("XAU", 2),
        ] {
            assert_eq!(decimals(code), digits, "{code}");
        }
    }
}
