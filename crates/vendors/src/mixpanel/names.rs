//! The names of events (`docs/contracts/destinations.md` 3.5): track events keep theirs, pages and screens
//! get one by a template.

use crate::{Outcome, beacon_format};
use tagway_core::event::{EnrichedEvent, EventKind};

use super::beacon;
use super::settings::MixpanelSettings;

/// Characters of an event's name.
const MAX_NAME_CHARS: usize = 255;

/// Names of events that link ids. A client must not send them.
const IDENTITY_EVENTS: [&str; 3] = ["$identify", "$merge", "$create_alias"];

/// The name of a page or a screen, with placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MixpanelNameTemplate(Vec<MixpanelNamePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum MixpanelNamePart {
    Text(String),
    Name,
    Category,
}

/// The reason why a text is no template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MixpanelNameError {
    #[error("must not be empty")]
    Empty,
    #[error("may contain {{{{name}}}} and {{{{category}}}} only")]
    Placeholder,
}

impl MixpanelNameTemplate {
    pub(super) fn read(written: &str) -> Result<Self, MixpanelNameError> {
        let mut parts = Vec::new();
        for (index, piece) in written.split("{{").enumerate() {
            let text = if index == 0 {
                piece
            } else {
                let (name, text) = piece.split_once("}}").ok_or(MixpanelNameError::Placeholder)?;
                parts.push(match name.trim() {
                    "name" => MixpanelNamePart::Name,
                    "category" => MixpanelNamePart::Category,
                    _ => return Err(MixpanelNameError::Placeholder),
                });
                text
            };
            if !text.is_empty() {
                parts.push(MixpanelNamePart::Text(text.to_owned()));
            }
        }
        if written.trim().is_empty() { Err(MixpanelNameError::Empty) } else { Ok(Self(parts)) }
    }

    /// Fills in the known values. `None` if there are placeholders and no value is known for any of them.
    fn fill(&self, name: Option<&str>, category: Option<&str>) -> Option<String> {
        let mut text = String::new();
        let (mut asked, mut known) = (false, false);
        for part in &self.0 {
            let value = match part {
                MixpanelNamePart::Text(plain) => {
                    text.push_str(plain);
                    continue;
                }
                MixpanelNamePart::Name => name,
                MixpanelNamePart::Category => category,
            };
            asked = true;
            known |= value.is_some();
            text.push_str(value.unwrap_or_default());
        }
        if asked && !known {
            return None;
        }
        // An unknown value leaves no gap.
        let words: Vec<&str> = text.split_whitespace().collect();
        Some(words.join(" "))
    }
}

/// Returns the name of a track event, a page or a screen.
pub(super) fn event_name(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
) -> Result<String, Outcome> {
    let text = |own: &Option<String>, key: &str| -> Option<String> {
        let own = own.as_deref().or_else(|| event.property(key)?.as_str());
        own.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let viewed = |template: &MixpanelNameTemplate, unnamed: &str| {
        let (name, category) =
            (text(&event.event.name, "name"), text(&event.event.category, "category"));
        template.fill(name.as_deref(), category.as_deref()).unwrap_or_else(|| unnamed.to_owned())
    };
    let own = || beacon_format::own_name(event, beacon::CLIENT).map(str::to_owned);
    let name = match event.event.kind {
        // The name that Mixpanel's own library gave it.
        EventKind::Page if own().is_some() => own().unwrap_or_default(),
        EventKind::Page => viewed(&settings.page_name, "Loaded a Page"),
        EventKind::Screen => viewed(&settings.screen_name, "Loaded a Screen"),
        _ => event.event.event.clone().unwrap_or_default(),
    };
    if name.trim().is_empty() {
        Err(Outcome::dead("missing_name"))
    } else if IDENTITY_EVENTS.contains(&name.trim()) {
        Err(Outcome::dead("reserved_name"))
    } else if name.chars().count() > MAX_NAME_CHARS {
        Err(Outcome::dead("name_too_long"))
    } else {
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_with_what_is_known() {
        let fill = |template: &str, name, category| {
            MixpanelNameTemplate::read(template).unwrap().fill(name, category)
        };
        let usual = "Viewed {{name}} Page";
        assert_eq!(fill(usual, Some("Home"), None).as_deref(), Some("Viewed Home Page"));
        assert_eq!(fill(usual, None, Some("Docs")), None);
        let both = "Viewed {{ category }} {{ name }} Page";
        assert_eq!(fill(both, Some("Home"), None).as_deref(), Some("Viewed Home Page"));
        assert_eq!(fill(both, Some("A"), Some("B")).as_deref(), Some("Viewed B A Page"));
        assert_eq!(fill("Page View", None, None).as_deref(), Some("Page View"));
        assert_eq!(MixpanelNameTemplate::read(" "), Err(MixpanelNameError::Empty));
        for bad in ["{{title}}", "{{name", "a {{ }} b"] {
            assert_eq!(
                MixpanelNameTemplate::read(bad),
                Err(MixpanelNameError::Placeholder),
                "{bad}"
            );
        }
    }
}
