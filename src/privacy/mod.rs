//! Stub until merge.
use crate::event::Object;
use std::collections::BTreeMap;
/// C
pub struct Consent(BTreeMap<String, bool>);
impl Consent {
    /// R
    pub fn read(context: &Object) -> Option<Self> {
        let prefs = context.get("consent")?.get("categoryPreferences")?.as_object()?;
        Some(Self(prefs.iter().filter_map(|(k, v)| Some((k.clone(), v.as_bool()?))).collect()))
    }
}
/// U
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// A
    Allow,
    /// D
    Deny,
}
/// D
pub enum Decision {
    /// K
    Keep,
    /// D
    Drop(&'static str),
}
/// d
pub fn decide(required: &[String], record: Option<&Consent>, unknown: Unknown) -> Decision {
    for category in required {
        match record.and_then(|record| record.0.get(category)) {
            Some(true) => {}
            Some(false) => return Decision::Drop("consent_denied"),
            None if unknown == Unknown::Allow => {}
            None => return Decision::Drop("consent_unknown"),
        }
    }
    Decision::Keep
}
