//! The page of a message (`docs/contracts/beacons.md` 2). The campaign and the ad clicks in its URL are read by
//! the gateway, for any client.

use url::Url;

use super::put;
use tagway_core::event::JsonObject;

/// Query parameters of a campaign and their canonical names.
const CAMPAIGN: &[(&str, &str)] = &[
    ("utm_source", "source"),
    ("utm_medium", "medium"),
    ("utm_campaign", "name"),
    ("utm_term", "term"),
    ("utm_content", "content"),
    ("utm_id", "id"),
];

/// Makes `context.page` of a page's URL, title and referrer.
pub fn page(url: Option<&str>, title: Option<&str>, referrer: Option<&str>) -> JsonObject {
    let mut page = JsonObject::new();
    put(&mut page, "url", url);
    if let Some(parsed) = url.and_then(|url| Url::parse(url).ok()) {
        put(&mut page, "path", Some(parsed.path()));
        put(&mut page, "search", parsed.query().map(|query| format!("?{query}")));
    }
    put(&mut page, "title", title);
    // Some libraries write this word for no referrer.
    put(&mut page, "referrer", referrer.filter(|referrer| *referrer != "$direct"));
    page
}

/// Returns the member of `context.campaign` for a query parameter, or a property of its name.
pub fn campaign_member(parameter: &str) -> Option<&'static str> {
    CAMPAIGN.iter().find(|(known, _)| *known == parameter).map(|(_, member)| *member)
}

/// Makes `context.screen` of a text like `1280x720`.
pub fn screen(size: &str) -> Option<JsonObject> {
    let (width, height) = size.split_once('x')?;
    let mut screen = JsonObject::new();
    put(&mut screen, "width", width.parse::<u32>().ok());
    put(&mut screen, "height", height.parse::<u32>().ok());
    (screen.len() == 2).then_some(screen)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn page_is_read_from_its_url() {
        let url = "https://shop.example/p/1?utm_source=google&utm_campaign=fall&ScCid=aB#top";
        let found = page(Some(url), Some("P"), Some("$direct"));
        assert_eq!(
            Value::Object(found),
            json!({
                "url": url, "path": "/p/1", "title": "P",
                "search": "?utm_source=google&utm_campaign=fall&ScCid=aB",
            })
        );
        assert_eq!(Value::Object(page(Some("/p"), None, None)), json!({ "url": "/p" }));
        assert_eq!(campaign_member("utm_campaign"), Some("name"));
        assert_eq!(campaign_member("campaign"), None);
        let size = screen("1280x720").map(Value::Object);
        assert_eq!(size, Some(json!({ "width": 1280, "height": 720 })));
        assert_eq!((screen("1280"), screen("x720"), screen("-1x2")), (None, None, None));
    }
}
