//! Descriptions of the settings of `[sites.vendors.NAME]`, the mount of a vendor.

use tagway_settings::Setting;

/// The described settings of `[site_defaults.vendors.mixpanel]`.
pub const MOUNT_SETTINGS: &[Setting] = &[
    Setting::text("mount")
        .example("/mixpanel")
        .doc("the beginning of its paths, by default the vendor's name; \"/\" is the root"),
    Setting::word("beacons", &["convert", "forward", "both", "off"]).example("convert").doc(
        "\"convert\" them to events, \"forward\" them unchanged to the vendor, \"both\", \
             or \"off\". By default \"forward\" if a destination of this vendor has the mode \
             \"client\" or \"both\", because the events already exist then",
    ),
    Setting::form("upstream", "a URL")
        .example("https://api-eu.mixpanel.com")
        .doc("the vendor's address for beacons, if not the default one"),
    Setting::texts("consent")
        .example("[\"analytics\"]")
        .doc("categories that the visitor must have granted for forwarded beacons"),
    Setting::word("erasures", &["refuse", "forget"]).example("refuse").doc(
        "of mixpanel: requests to erase a person ($delete). \"forget\" does what `tagway \
             forget` does, for requests with the site's server_token only; all others are \
             refused, as all are with \"refuse\", the default",
    ),
    Setting::word("scripts", &["shim", "proxy", "off"]).example("shim").doc(
        "the scripts below the mount: \"shim\", a replacement of the library that makes \
             events of the page's calls; \"proxy\", the vendor's own scripts, fetched by the \
             gateway; or \"off\". By default \"proxy\" if a destination of this vendor has \
             the mode \"client\" or \"both\", else \"shim\", or \"off\" for vendors without \
             a shim. With \"proxy\" and the mode \"client\", the library's beacons arrive \
             here: set beacons = \"forward\" or \"both\", so that the vendor gets them",
    ),
    Setting::text("embed_id").example("xyz789").doc("drift's public id, for the same as app_id"),
    Setting::text_table("pin").doc("scripts that are pinned to one version, see below"),
    Setting::text("app_id").example("abcd1234").doc(
        "intercom's public id (drift has embed_id): with it the shim shows a button that \
             loads the messenger at a click, through the gateway with \"proxy\", else from \
             the vendor. It is public, since pages contain it",
    ),
    Setting::texts("ids").example("[\"GTM-ABCD\", \"AW-1\"]").doc(
        "with \"proxy\": the site's own ids at the vendor, besides those in its \
             destinations' settings (measurement_id, pixel_id, api_key, app_id, embed_id), \
             in app_id and embed_id here, and in pins. Customer-specific scripts are served \
             for these ids only, and are 404 for others: the vendor's host has the scripts \
             of all customers, who could otherwise run code in the site's pages in spite of \
             script-src 'self'. In pages of the origin, tags with other ids stay unchanged",
    ),
    Setting::form("script_endpoint", "a URL")
        .example("https://cdn.example")
        .doc("with \"proxy\": the source of the scripts, if not the vendor's own host"),
];
