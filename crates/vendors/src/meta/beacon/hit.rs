//! One event in the library's form: fields of a query or a form (`docs/contracts/beacons.md` 4.3).

use crate::beacon::BeaconDecodeError;
use crate::beacon_format::FormFields;

/// A name and a value of a family of fields: `value` and `9.5` of `cd[value]=9.5`.
pub(super) type MetaFieldFamily<'f> = Vec<(&'f str, &'f str)>;

/// The fields of one event. Empty ones count as missing, except `dpo`.
#[derive(Debug, Default)]
pub(super) struct MetaBeaconHit<'f> {
    /// `id`: the pixel's number.
    pub(super) pixel: &'f str,
    /// `ev`: the event's name, one of Meta's or the site's own.
    pub(super) event: &'f str,
    /// `eid`: the id that the site gave the event.
    pub(super) id: Option<&'f str>,
    /// `dl`: the page's URL.
    pub(super) url: Option<&'f str>,
    /// `rl`: the page's referrer.
    pub(super) referrer: Option<&'f str>,
    /// `pmd[title]`: the page's title.
    pub(super) title: Option<&'f str>,
    /// `ts`: the time of the event, in milliseconds.
    pub(super) at: Option<&'f str>,
    /// `it`: the time at which the page was loaded, in milliseconds.
    pub(super) loaded_at: Option<&'f str>,
    /// `ec`: its number among the page's events.
    pub(super) count: Option<&'f str>,
    /// `fbp`: the browser's cookie.
    pub(super) browser: Option<&'f str>,
    /// `fbc`: the click's cookie.
    pub(super) click: Option<&'f str>,
    /// `sw`: the screen's width.
    pub(super) width: Option<&'f str>,
    /// `sh`: the screen's height.
    pub(super) height: Option<&'f str>,
    /// `iw`: the window's inner width.
    pub(super) inner_width: Option<&'f str>,
    /// `tz`: the time zone's name; an offset in some releases.
    pub(super) timezone: Option<&'f str>,
    /// `v`: the library's version.
    pub(super) version: Option<&'f str>,
    /// `a`: the integration that put the library on the page.
    pub(super) agent: Option<&'f str>,
    /// `dpo`: Meta's data processing options. Empty if the site sets no limit.
    pub(super) options: Option<&'f str>,
    /// `dpoco`: the country of the options.
    pub(super) country: Option<&'f str>,
    /// `dpost`: the state of the options.
    pub(super) state: Option<&'f str>,
    /// `cd[...]`: the event's custom data.
    pub(super) data: MetaFieldFamily<'f>,
    /// `ud[...]`: advanced matching data that the site gave.
    pub(super) person: MetaFieldFamily<'f>,
    /// `udff[...]`: advanced matching data found in the page's forms.
    pub(super) found: MetaFieldFamily<'f>,
}

impl<'f> MetaBeaconHit<'f> {
    /// Reads the fields of one event.
    ///
    /// # Errors
    ///
    /// Returns `Malformed` if the event's name or the pixel's number is missing.
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
        // Meta's library writes deeper values as JSON.
        let Some(member) = member.filter(|member| !member.contains("][")) else { return };
        match family {
            "cd" => self.data.push((member, value)),
            "ud" => self.person.push((member, value)),
            "udff" => self.found.push((member, value)),
            _ => {}
        }
    }
}
