//! The landing URL's click ids of ad platforms and campaign (`docs/contracts/beacons.md` 2 and 12.7), stored in the
//! second cookie.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::{VisitorRequest, VisitorSettings};
use crate::event::{AdClickId, UtmCampaign};

/// The parameters that carry click ids, lower case. Names are compared without regard to case.
const PARAMETERS: &[&str] = &[
    "gclid",
    "wbraid",
    "gbraid",
    "dclid",
    "fbclid",
    "ttclid",
    "msclkid",
    "li_fat_id",
    "twclid",
    "epik",
    "sccid",
    "rdt_cid",
    "qclid",
    "irclickid",
    "irclid",
    "yclid",
    "obclid",
    "tblci",
    "_kx",
    "mc_cid",
    "mc_eid",
    "cjevent",
    "awc",
    "ko_click_id",
];

/// The longest click id (`docs/contracts/beacons.md` 12.7).
const MAX_ID_BYTES: usize = 512;

/// The longest campaign field: campaign names of ad platforms have 100 to 250 characters.
const MAX_CAMPAIGN_BYTES: usize = 256;

/// The most parameters of one URL that are read.
const MAX_PARAMETERS: usize = 100;

/// The most bytes of JSON in the cookie, escapes included: in base64 and with its attributes it stays
/// below the 4096 bytes that browsers take. The oldest click ids make room.
const MAX_BYTES: usize = 2600;

/// The most bytes of JSON of the campaign in it: one click id has room beside. A longer campaign, such
/// as one of characters that JSON escapes, is left out.
const MAX_CAMPAIGN_JSON_BYTES: usize = 2000;

/// The click ids and campaign remembered from landings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LandingCookie {
    /// The click ids, by parameter.
    #[serde(rename = "i", default, skip_serializing_if = "BTreeMap::is_empty")]
    ids: BTreeMap<String, AdClickId>,
    /// The campaign of the last landing.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    campaign: Option<UtmCampaign>,
    /// True if an older key signed the cookie.
    #[serde(skip)]
    is_old: bool,
}

impl LandingCookie {
    /// Reads a cookie's value; `None` unless a key of the site signed it.
    pub(super) fn read(settings: &VisitorSettings, value: &str) -> Option<Self> {
        let opened = settings.keys.open(&settings.clicks_name, value)?;
        let mut clicks: Self = serde_json::from_slice(&opened.payload).ok()?;
        clicks.is_old = opened.is_old;
        Some(clicks)
    }

    /// Returns the cookie's value.
    pub(super) fn write(&self, settings: &VisitorSettings) -> String {
        let payload = serde_json::to_vec(self).unwrap_or_default();
        settings.keys.seal(&settings.clicks_name, &payload)
    }

    /// Returns what is remembered after a request, and true if the cookie must be written.
    pub(super) fn update(
        known: Option<Self>,
        settings: &VisitorSettings,
        request: &VisitorRequest<'_>,
    ) -> (Self, bool) {
        let was_known = known.is_some();
        let mut clicks = known.unwrap_or_default();
        let before = clicks.clone();
        let age = |click: &AdClickId| request.now.duration_since(click.at).unsigned_abs();
        let may_keep = |click: &AdClickId| {
            request.permissions.click_ids && age(click) <= settings.click_id_max_age
        };
        clicks.ids.retain(|_, click| may_keep(click));
        if let Some(query) = request.page_url.and_then(query) {
            clicks.add_query(query, request);
        }
        let has_changed = clicks != before || (was_known && clicks.is_old);
        (clicks, has_changed)
    }

    fn add_query(&mut self, query: &str, request: &VisitorRequest<'_>) {
        let mut campaign = UtmCampaign::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).take(MAX_PARAMETERS) {
            let known = PARAMETERS.iter().find(|known| known.eq_ignore_ascii_case(&name));
            if let Some(name) =
                known.filter(|_| request.permissions.click_ids && is_click_id(&value))
            {
                let is_known = self.ids.get(*name).is_some_and(|click| click.value == value);
                if !is_known {
                    let click = AdClickId { value: value.into_owned(), at: request.now };
                    self.ids.insert((*name).to_owned(), click);
                }
            } else if let Some(field) = campaign_field(&mut campaign, &name)
                && !value.is_empty()
                && value.len() <= MAX_CAMPAIGN_BYTES
            {
                *field = Some(value.into_owned());
            }
        }
        let json = serde_json::to_vec(&campaign);
        let is_short = json.is_ok_and(|json| json.len() <= MAX_CAMPAIGN_JSON_BYTES);
        if campaign != UtmCampaign::default() && is_short {
            self.campaign = Some(campaign);
        }
        while serde_json::to_vec(self).is_ok_and(|json| json.len() > MAX_BYTES) {
            let oldest = self.ids.iter().min_by_key(|(_, click)| click.at);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { break };
            self.ids.remove(&name);
        }
    }

    pub(super) fn into_facts(self) -> (BTreeMap<String, AdClickId>, Option<UtmCampaign>) {
        (self.ids, self.campaign)
    }
}

fn query(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    Some(query.split_once('#').map_or(query, |(query, _)| query))
}

fn is_click_id(value: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~');
    !value.is_empty() && value.len() <= MAX_ID_BYTES && value.bytes().all(plain)
}

fn campaign_field<'c>(campaign: &'c mut UtmCampaign, name: &str) -> Option<&'c mut Option<String>> {
    match name {
        "utm_campaign" => Some(&mut campaign.name),
        "utm_source" => Some(&mut campaign.source),
        "utm_medium" => Some(&mut campaign.medium),
        "utm_term" => Some(&mut campaign.term),
        "utm_content" => Some(&mut campaign.content),
        "utm_id" => Some(&mut campaign.id),
        _ => None,
    }
}
