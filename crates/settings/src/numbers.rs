//! Reads booleans and numbers, within the ranges of their descriptions.

use toml::de::DeValue;

use super::description::SettingKind;
use super::layer::integer_of;
use super::section::SettingsSection;

impl SettingsSection<'_> {
    /// A required boolean.
    pub fn boolean(&mut self, key: &str) -> bool {
        let Some(found) = self.find(key) else {
            return self.default_or_missing(key, |text| text.parse().ok()).unwrap_or(false);
        };
        found.value.as_bool().unwrap_or_else(|| {
            self.wrong_type(&found, "true or false");
            false
        })
    }

    /// A required whole number, within the range of its description.
    pub fn integer<T: TryFrom<i64> + Default>(&mut self, key: &str) -> T {
        let described = self.description(key).map(|setting| setting.kind);
        let (min, max) = match described {
            Some(SettingKind::Integer(min, max)) => (min, max),
            _ => (i64::MIN, i64::MAX),
        };
        let number = match self.find(key) {
            None => self.default_or_missing(key, |text| text.replace('_', "").parse().ok()),
            Some(found) => match integer_of(found.value) {
                Some(number) if (min..=max).contains(&number) => Some(number),
                Some(number) => {
                    self.error_at(&found, &format!("{number} is not between {min} and {max}"));
                    None
                }
                None => {
                    self.wrong_type(&found, "a whole number that fits 64 bits");
                    None
                }
            },
        };
        // The range fits the type; after a mistake the value is a placeholder.
        T::try_from(number.unwrap_or(min)).unwrap_or_default()
    }

    /// A whole number, if set.
    pub fn opt_integer<T: TryFrom<i64> + Default>(&mut self, key: &str) -> Option<T> {
        self.has(key).then(|| self.integer(key))
    }

    /// A required number, within the range of its description.
    pub fn number(&mut self, key: &str) -> f64 {
        let described = self.description(key).map(|setting| setting.kind);
        let (min, max) = match described {
            Some(SettingKind::Number(min, max)) => (min, max),
            _ => (f64::MIN, f64::MAX),
        };
        let Some(found) = self.find(key) else {
            return self.default_or_missing(key, |text| text.parse().ok()).unwrap_or(min);
        };
        let number = match found.value {
            DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
            #[expect(clippy::cast_precision_loss, reason = "settings are far below 2^52")]
            other => integer_of(other).map(|integer| integer as f64),
        };
        match number {
            Some(number) if (min..=max).contains(&number) => return number,
            Some(number) => {
                self.error_at(&found, &format!("{number} is not between {min} and {max}"));
            }
            None => self.wrong_type(&found, "a number"),
        }
        min
    }
}
