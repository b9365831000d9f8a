//! The site's filters and changes for the events of one destination: the same for every vendor.
//!
//! In order: the condition (`types`, `where`), the lists of `properties` and `traits`, the rules one
//! after another, the store's `currency` and `country` where the event names none. A rule sets,
//! moves, converts, hashes, drops; it sees the event as the rules before it left it. A step that is
//! impossible for an event (a template without a value, a text that is no number) changes nothing.
//!
//! The event's message id, kind and times stay as they are: they identify the delivered event.
//!
//! The steps and the output of an evaluation are bounded by the destination's `template_steps` and
//! `TEMPLATE_BYTES`, and the bytes that the rules put into one event by `MAPPING_BYTES`, each before
//! anything is made. Values beyond a bound are left out and counted ([`EventMapping::take_omissions`]), and
//! so are failed evaluations ([`EventMapping::take_failures`]).
//!
//! Names that the engine or an event cannot have are configuration errors; names that are probably typos
//! are warnings ([`probable_typos`]).

mod bounded;
mod globs;
mod names;
mod omissions;
mod path;
mod rule;
mod spec;
mod template;
mod template_context;
#[cfg(test)]
mod tests;

pub use globs::GlobPatterns;
pub use omissions::{MappingBound, MissingValue};
pub use spec::{NameMention, probable_typos};

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use self::names::LookupPath;
use self::omissions::{MappingDiagnostics, OmissionCounters, rule_name};
use self::path::MappingDraft;
use self::rule::{MappingCondition, MappingRule};
use self::template::CompiledTemplates;
use self::template_context::ContextNeeds;
use crate::person::EventPerson;
use crate::products;
use tagway_core::event::{ComputedAttributes, EnrichedEvent, Event, EventKind, ProfileView};
use tagway_core::values::{ParsedValue, amount, currency};
use tagway_settings::{Setting, SettingsSection, SettingsTable};

/// The limit of one template's value: no vendor accepts more.
const TEMPLATE_BYTES: usize = 64 * 1024;

/// The limit of the bytes that a mapping's rules add to one event: 32 times the event's own limit.
const MAPPING_BYTES: usize = 1024 * 1024;

/// The described settings of `[sites.destinations.mapping]`.
pub const MAPPING_SETTINGS: &[Setting] = &[
    Setting::texts("properties")
        .example("[\"*\", \"!internal_*\"]")
        .doc("properties that are sent; all by default"),
    Setting::texts("traits")
        .example("[\"email\", \"plan\"]")
        .doc("traits that are sent; all by default"),
    Setting::text("currency")
        .example("EUR")
        .doc("the currency of events with amounts and without one"),
    Setting::text("country").example("CH").doc("the country of people whose own is unknown"),
    Setting::tables("rules", &SettingsTable(&[rule::RULE_SETTINGS])),
];

/// The properties whose amounts are useless without a currency.
const AMOUNTS: [&str; 5] = ["revenue", "total", "value", "price", "products"];

/// One destination's mapping, with the counts of its omissions.
pub struct EventMapping {
    templates: CompiledTemplates,
    condition: MappingCondition,
    properties: Option<GlobPatterns>,
    traits: Option<GlobPatterns>,
    currency: Option<String>,
    country: Option<String>,
    rules: Vec<MappingRule>,
    context_needs: ContextNeeds,
    /// The most bytes that the rules put into one event.
    max_bytes: usize,
    omissions: OmissionCounters,
    counted: BTreeSet<String>,
}

/// The reason why an event does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WithheldReason {
    /// Its kind is not one of `types`, or `where` does not hold.
    NotSelected,
    /// `where` failed for it; the message is the reason.
    Undecided(String),
}

impl Default for EventMapping {
    /// The mapping that changes nothing.
    fn default() -> Self {
        Self {
            templates: CompiledTemplates::new(0, 0),
            condition: MappingCondition::any(),
            properties: None,
            traits: None,
            currency: None,
            country: None,
            rules: Vec::new(),
            context_needs: ContextNeeds::default(),
            max_bytes: 0,
            omissions: OmissionCounters::default(),
            counted: BTreeSet::new(),
        }
    }
}

impl fmt::Debug for EventMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} rules)", self.rules.len())
    }
}

impl EventMapping {
    /// Reads `types` and `where` of a destination, its `mapping` table, and its bounds.
    pub fn read(destination: &mut SettingsSection<'_>) -> Self {
        let steps = destination.integer("template_steps");
        let mut templates = CompiledTemplates::new(steps, TEMPLATE_BYTES);
        let max_bytes = MAPPING_BYTES;
        let condition = MappingCondition::read(destination, false, &mut templates);
        let mut section = destination.section("mapping");
        section.describe(MAPPING_SETTINGS);
        let mut globs =
            |key: &str| section.has(key).then(|| GlobPatterns::new(&section.strings(key)));
        let (properties, traits) = (globs("properties"), globs("traits"));
        let currency = products::store_currency(&mut section);
        let country = section.opt_string("country").map(|code| code.to_ascii_uppercase());
        if country.as_deref().is_some_and(|code| !is_country(code)) {
            section.error("country", "must be an ISO 3166 code of two letters, such as \"CH\"");
        }
        let mut rules = Vec::new();
        for mut rule in section.sections("rules", None) {
            rules.push(MappingRule::read(&mut rule, &mut templates));
        }
        let looks = ContextNeeds::of(&templates.names());
        let counted = templates.counted();
        let left_out = OmissionCounters::new(rules.len());
        Self {
            templates,
            condition,
            properties,
            traits,
            currency,
            country,
            rules,
            context_needs: looks,
            counted,
            max_bytes,
            omissions: left_out,
        }
    }

    /// Returns the number of values left out since the last call, by the bound that they met; true if
    /// these are the first.
    pub fn take_omissions(&self) -> Option<(Vec<(MappingBound, u64)>, bool)> {
        self.omissions.take()
    }

    /// Returns the event names that its rules name, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(MappingRule::names).map(String::as_str)
    }

    /// Returns the failed evaluations since the last call, by the name of their rule; true if these are the
    /// first.
    pub fn take_failures(&self) -> Option<(Vec<(String, u64)>, bool)> {
        let (counts, is_news) = self.omissions.take_failures()?;
        Some((counts.into_iter().map(|(rule, count)| (rule_name(rule), count)).collect(), is_news))
    }

    /// Returns the values that `where`, rules and lists look up, each with its place below `at`.
    pub fn mentions(&self, at: &str) -> BTreeSet<NameMention> {
        let mut mentions = BTreeSet::new();
        let mut add = |place: &str, lookup: LookupPath| {
            mentions.insert(NameMention { place: format!("{at}: {place}"), lookup });
        };
        for lookup in self.condition.lookups() {
            add("where", lookup.clone());
        }
        for (index, rule) in self.rules.iter().enumerate() {
            for (key, lookup) in rule.lookups() {
                add(&format!("mapping.{}.{key}", rule_name(index)), lookup);
            }
        }
        mentions
    }

    /// Returns the paths of the values that its rules set, or move others to.
    pub fn written_paths(&self) -> BTreeSet<Vec<String>> {
        self.rules.iter().flat_map(MappingRule::written_paths).collect()
    }

    /// Returns true if it needs the attributes computed from a person's events.
    pub fn needs_computed_attributes(&self) -> bool {
        self.context_needs.computed
    }

    /// Returns the names of events whose counts per person it uses.
    pub fn counted_events(&self) -> &BTreeSet<String> {
        &self.counted
    }

    /// Returns true if it changes events or withholds some.
    pub fn is_configured(&self) -> bool {
        let is_chosen = self.properties.is_some() || self.traits.is_some();
        is_chosen || !self.rules.is_empty() || !self.condition.is_any()
    }

    /// Returns true if an event of this kind and name may pass; `where` is checked separately.
    pub fn is_for(&self, event: &Event) -> bool {
        self.condition.is_for(event.kind, event.label())
    }

    /// Returns the event in the form for the destination.
    ///
    /// # Errors
    ///
    /// Returns a [`WithheldReason`] if the destination is not to get the event.
    pub fn apply(&self, event: EnrichedEvent) -> Result<EnrichedEvent, WithheldReason> {
        self.apply_noting(event, None, &self.omissions)
    }

    /// Returns the same without counting what fails: for a rehearsal of events that were delivered before.
    ///
    /// # Errors
    ///
    /// Returns a [`WithheldReason`] if the destination is not to get the event.
    pub fn rehearse(&self, event: EnrichedEvent) -> Result<EnrichedEvent, WithheldReason> {
        self.apply_noting(event, None, &OmissionCounters::new(self.rules.len()))
    }

    /// Returns the values that rules set but this event does not get, with the reasons.
    pub fn missing(&self, event: EnrichedEvent) -> Vec<MissingValue> {
        let mut missing = Vec::new();
        // Callers that apply the mapping report why an event is withheld.
        drop(self.apply_noting(event, Some(&mut missing), &self.omissions));
        missing
    }

    fn apply_noting(
        &self,
        event: EnrichedEvent,
        missing: Option<&mut Vec<MissingValue>>,
        left_out: &OmissionCounters,
    ) -> Result<EnrichedEvent, WithheldReason> {
        if !self.condition.is_for(event.event.kind, event.event.label()) {
            return Err(WithheldReason::NotSelected);
        }
        let computed = event.computed.as_ref();
        let mut context = minijinja::Value::UNDEFINED;
        if self.condition.needs_content() {
            context = self.template_context(&event.event, &event.profile, computed);
        }
        match self.condition.holds(&self.templates, &context) {
            Ok(true) => {}
            Ok(false) => return Err(WithheldReason::NotSelected),
            Err(error) => return Err(WithheldReason::Undecided(error.to_string())),
        }
        if !self.changes(&event) {
            return Ok(event);
        }
        let mut draft = MappingDraft::of(&event, self.max_bytes);
        if let Some(properties) = &self.properties {
            draft.keep_properties(|key| properties.matches(key));
        }
        if let Some(traits) = &self.traits {
            draft.keep_traits(|key| traits.matches(key));
        }
        let mut notes = MappingDiagnostics { left_out, rule: 0, missing };
        for (index, rule) in self.rules.iter().enumerate() {
            notes.rule = index;
            let is_for = rule.condition.is_for(draft.event.kind, draft.event.label());
            if is_for && rule.needs_content() {
                context = self.template_context(&draft.event, &draft.profile, computed);
            }
            // A rule whose condition fails to evaluate does nothing.
            let holds = is_for.then(|| rule.condition.holds(&self.templates, &context).map(Some));
            let holds = holds.and_then(|holds| notes.value(|| "where".to_owned(), holds));
            if holds.unwrap_or(false) {
                rule.apply(&mut draft, &self.templates, &context, &mut notes);
            }
        }
        left_out.add(MappingBound::Mapping, draft.refused);
        self.add_defaults(&mut draft);
        let MappingDraft { event: mapped, profile, .. } = draft;
        Ok(EnrichedEvent::new(event.seq, Arc::new(mapped), Arc::new(profile)))
    }

    /// Returns true if anything here may change the event.
    fn changes(&self, event: &EnrichedEvent) -> bool {
        let is_for =
            |rule: &MappingRule| rule.condition.is_for(event.event.kind, event.event.label());
        self.properties.is_some()
            || self.traits.is_some()
            || self.currency.is_some()
            || self.country.is_some()
            || self.rules.iter().any(is_for)
    }

    /// Builds the context that conditions and templates see.
    fn template_context(
        &self,
        event: &Event,
        profile: &ProfileView,
        computed: Option<&Arc<ComputedAttributes>>,
    ) -> minijinja::Value {
        template_context::template_context(self.context_needs, event, profile, computed)
    }

    fn add_defaults(&self, draft: &mut MappingDraft) {
        if let (Some(currency), Some(properties)) = (&self.currency, &mut draft.event.properties)
            && AMOUNTS.iter().any(|key| properties.contains_key(*key))
            && currency::read(properties.get("currency"), Some(currency)) == ParsedValue::Absent
            && !AMOUNTS.iter().any(|key| has_currency(properties.get(*key)))
        {
            properties.insert("currency".to_owned(), Value::String(currency.clone()));
        }
        let Some(country) = &self.country else { return };
        let event = Arc::new(draft.event.clone());
        let seen = EnrichedEvent::new(0, event, Arc::new(draft.profile.clone()));
        if draft.event.kind != EventKind::Group && EventPerson::of(&seen).country().is_none() {
            draft.profile.traits.insert("country".to_owned(), Value::String(country.clone()));
        }
    }
}

/// Returns true for an amount with a currency beside it: the default does not replace that.
fn has_currency(amount: Option<&Value>) -> bool {
    let text = amount.and_then(Value::as_str);
    text.and_then(|text| amount::parse(text, None)).is_some_and(|it| it.currency.is_some())
}

/// Returns true for the form of ISO 3166-1: two capital letters.
fn is_country(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}
