//! One event as the library writes it: fields of a query or a form (`contracts/beacons.md` 4.3).

use crate::vendors::beacon::BeaconDecodeError;
use crate::vendors::beacon_format::FormFields;

/// A name and a value of a family of fields: `value` and `9.5` of `cd[value]=9.5`.
pub(super) type MetaFieldFamily<'f> = Vec<(&'f str, &'f str)>;

/// One event. What is empty is none.
#[derive(Debug, Default)]
pub(super) struct MetaBeaconHit<'f> {
    /// `id`: the pixel.
    pub(super) pixel: &'f str,
    /// `ev`: what happened, in Meta's words or the site's.
    pub(super) event: &'f str,
    /// `eid`: the id that the site gave the event.
    pub(super) id: Option<&'f str>,
    /// `dl`
    pub(super) url: Option<&'f str>,
    /// `rl`
    pub(super) referrer: Option<&'f str>,
    /// `pmd[title]`
    pub(super) title: Option<&'f str>,
    /// `ts`: when it happened, in milliseconds.
    pub(super) at: Option<&'f str>,
    /// `it`: when the page was loaded, in milliseconds.
    pub(super) loaded_at: Option<&'f str>,
    /// `ec`: its place among the page's events.
    pub(super) count: Option<&'f str>,
    /// `fbp`
    pub(super) browser: Option<&'f str>,
    /// `fbc`
    pub(super) click: Option<&'f str>,
    /// `sw`
    pub(super) width: Option<&'f str>,
    /// `sh`
    pub(super) height: Option<&'f str>,
    /// `iw`
    pub(super) inner_width: Option<&'f str>,
    /// `tz`
    pub(super) timezone: Option<&'f str>,
    /// `v`
    pub(super) version: Option<&'f str>,
    /// `a`: the integration that put the library on the page.
    pub(super) agent: Option<&'f str>,
    /// `dpo`: how Meta may process the event. Empty where the site says that it is not limited.
    pub(super) options: Option<&'f str>,
    /// `dpoco`
    pub(super) country: Option<&'f str>,
    /// `dpost`
    pub(super) state: Option<&'f str>,
    /// `cd[...]`: what the event says.
    pub(super) data: MetaFieldFamily<'f>,
    /// `ud[...]`: of whom it is.
    pub(super) person: MetaFieldFamily<'f>,
    /// `udff[...]`: the same, as found in the page's forms.
    pub(super) found: MetaFieldFamily<'f>,
}

impl<'f> MetaBeaconHit<'f> {
    /// Reads one event.
    pub(super) fn read(fields: &'f FormFields<'_>) -> Result<Self, BeaconDecodeError> {
        let mut hit = Self::default();
        for (name, value) in fields.iter() {
            if name == "dpo" {
                hit.options = Some(value);
            } else if !value.is_empty() {
                hit.note(name, value);
            }
        }
        if hit.event.trim().is_empty() {
            return Err(BeaconDecodeError::Malformed("there is no event"));
        }
        let is_number = hit.pixel.bytes().all(|byte| byte.is_ascii_digit());
        if hit.pixel.is_empty() || !is_number {
            return Err(BeaconDecodeError::Malformed("there is no pixel's id"));
        }
        Ok(hit)
    }

    fn note(&mut self, name: &'f str, value: &'f str) {
        let place = match name {
            "id" => return self.pixel = value,
            "ev" => return self.event = value,
            "eid" => &mut self.id,
            "dl" => &mut self.url,
            "rl" => &mut self.referrer,
            "pmd[title]" => &mut self.title,
            "ts" => &mut self.at,
            "it" => &mut self.loaded_at,
            "ec" => &mut self.count,
            "fbp" => &mut self.browser,
            "fbc" => &mut self.click,
            "sw" => &mut self.width,
            "sh" => &mut self.height,
            "iw" => &mut self.inner_width,
            "tz" => &mut self.timezone,
            "v" => &mut self.version,
            "a" => &mut self.agent,
            "dpoco" => &mut self.country,
            "dpost" => &mut self.state,
            _ => return self.note_member(name, value),
        };
        *place = Some(value);
    }

    fn note_member(&mut self, name: &'f str, value: &'f str) {
        let Some((family, rest)) = name.split_once('[') else { return };
        let member = rest.strip_suffix(']').filter(|member| !member.is_empty());
        // Meta's library writes what is deeper as JSON.
        let Some(member) = member.filter(|member| !member.contains("][")) else { return };
        match family {
            "cd" => self.data.push((member, value)),
            "ud" => self.person.push((member, value)),
            "udff" => self.found.push((member, value)),
            _ => {}
        }
    }
}
