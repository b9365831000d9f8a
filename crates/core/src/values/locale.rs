//! The notation of a site's numbers: the setting `locale`.

use std::fmt;
use std::str::FromStr;

use tagway_settings::TextualValue;

/// The sign before the decimals of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecimalSign {
    /// `1,299.00`, `1'299.00`.
    Point,
    /// `1.299,00`, `1 299,00`.
    Comma,
}

/// A language and region, as far as they determine the notation of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NumberLocale {
    /// The sign before the decimals.
    pub decimal: DecimalSign,
}

/// The error for a text that names no supported language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLocaleError;

impl fmt::Display for UnknownLocaleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no known language; give one such as \"en\", \"de-CH\" or \"pt-BR\" (BCP 47)")
    }
}

/// Languages whose numbers have a decimal comma (CLDR).
const COMMA: &[&str] = &[
    "af", "ast", "az", "be", "bg", "br", "bs", "ca", "cs", "da", "de", "el", "es", "et", "eu",
    "fi", "fo", "fr", "fy", "gl", "hr", "hu", "hy", "id", "is", "it", "ka", "kk", "ky", "lb", "lt",
    "lv", "mk", "nb", "nl", "nn", "no", "oc", "pl", "pt", "ro", "ru", "sk", "sl", "sq", "sr", "sv",
    "tr", "uk", "uz", "vi",
];

/// Languages whose numbers have a decimal point (CLDR).
const POINT: &[&str] = &[
    "am", "ar", "bn", "cy", "en", "fa", "fil", "ga", "gd", "gu", "he", "hi", "iw", "ja", "km",
    "kn", "ko", "lo", "ml", "mn", "mr", "ms", "mt", "my", "ne", "or", "pa", "si", "sw", "ta", "te",
    "th", "tl", "ur", "zh", "zu",
];

/// Regions where a language's notation differs from that elsewhere (CLDR; amounts in Switzerland).
const REGION_DECIMAL_SIGNS: &[(&str, &[&str], DecimalSign)] = &[
    ("de", &["CH", "LI"], DecimalSign::Point),
    ("fr", &["CH"], DecimalSign::Point),
    ("it", &["CH"], DecimalSign::Point),
    ("es", &["CU", "DO", "GT", "HN", "MX", "NI", "PA", "PE", "PR", "SV", "US"], DecimalSign::Point),
    ("en", &["AT", "BE", "DE", "DK", "FI", "NL", "SE", "SI"], DecimalSign::Comma),
    ("ar", &["DZ", "LY", "MA", "MR", "TN"], DecimalSign::Comma),
];

impl FromStr for NumberLocale {
    type Err = UnknownLocaleError;

    fn from_str(text: &str) -> Result<Self, UnknownLocaleError> {
        let mut parts = text.trim().split(['.', '@']).next().unwrap_or_default().split(['-', '_']);
        let language = parts.next().unwrap_or_default().to_ascii_lowercase();
        let region = parts.find(|part| part.len() == 2).map(str::to_ascii_uppercase);
        let elsewhere = REGION_DECIMAL_SIGNS.iter().find(|(known, regions, _)| {
            *known == language && region.as_deref().is_some_and(|region| regions.contains(&region))
        });
        let decimal = match elsewhere {
            Some((_, _, decimal)) => *decimal,
            None if COMMA.contains(&language.as_str()) => DecimalSign::Comma,
            None if POINT.contains(&language.as_str()) => DecimalSign::Point,
            None => return Err(UnknownLocaleError),
        };
        Ok(Self { decimal })
    }
}

impl TextualValue for NumberLocale {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|unknown: UnknownLocaleError| format!("is {unknown}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locale_of_a_region_overrides_that_of_its_language() {
        for (text, decimal) in [
            ("en", DecimalSign::Point),
            ("de", DecimalSign::Comma),
            ("de-CH", DecimalSign::Point),
            ("de_AT.UTF-8", DecimalSign::Comma),
            ("es-MX", DecimalSign::Point),
            ("zh-Hant-TW", DecimalSign::Point),
            ("pt-BR", DecimalSign::Comma),
        ] {
            assert_eq!(text.parse::<NumberLocale>().map(|it| it.decimal), Ok(decimal), "{text}");
        }
        for text in ["", "x", "german"] {
            assert_eq!(text.parse::<NumberLocale>(), Err(UnknownLocaleError), "{text}");
        }
    }
}
