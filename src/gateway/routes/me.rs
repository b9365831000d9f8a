//! `GET /me`: the part of the visitor's profile that the site makes public to its pages. The first-party cookie
//! alone identifies the visitor; no other profile can be requested.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use serde_json::Value;
use uuid::Uuid;

use crate::gateway::rejection::RequestRejection;
use crate::gateway::{SiteRequest, answer, head};
use tagway_core::answer::ResponseBody;
use tagway_core::event::JsonObject;
use tagway_core::visitor::{self, StoragePermissions, VisitorRequest};

/// Pages of the site's other origins use CORS, which this does not affect; other sites cannot even load it.
const POLICY: (HeaderName, HeaderValue) = (
    HeaderName::from_static("cross-origin-resource-policy"),
    HeaderValue::from_static("same-origin"),
);

const SNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));

pub(in crate::gateway) async fn answer(
    arrived: &SiteRequest<'_>,
) -> Result<Response<ResponseBody>, RequestRejection> {
    arrived.limit()?;
    let known = public_profile(arrived).await?;
    let body = Bytes::from(Value::Object(known).to_string());
    let mut response = answer::json(body);
    let fields = response.headers_mut();
    for (name, value) in [POLICY, SNIFF] {
        fields.insert(name, value);
    }
    Ok(response)
}

/// Returns the public part of the visitor's profile.
async fn public_profile(arrived: &SiteRequest<'_>) -> Result<JsonObject, RequestRejection> {
    let (site, public) = (arrived.site, &arrived.site.public);
    let Some(profiles) = &arrived.gateway.profiles else { return Ok(JsonObject::new()) };
    if arrived.is_cross_site() {
        return Ok(JsonObject::new());
    }
    let seen = VisitorRequest {
        cookies: &head::cookies(&arrived.head.headers),
        host: arrived.host,
        secure: arrived.client.secure,
        page_url: None,
        permissions: StoragePermissions { click_ids: false, ..arrived.storage_permissions(&[]) },
        now: arrived.received_at,
        random: Uuid::new_v4().into_bytes(),
    };
    let visitor = visitor::recognise(&site.visitor, &arrived.snapshot.vendor_cookies, &seen);
    if !visitor.is_known || !visitor.is_remembered {
        return Ok(JsonObject::new());
    }
    let found = profiles.of_visitor(site.id, &visitor.visitor.id, public.wants_computed()).await;
    match found {
        Ok(found) => Ok(public.of(&found.view, found.computed.as_deref())),
        Err(error) => {
            tracing::warn!(%error, "GET /me failed: the visitor's profile cannot be read");
            Err(RequestRejection::Unread)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use crate::gateway::tests::{TestGateway, limits, page, start_gateway, to};
    use crate::gateway::{GatewaySiteSettings, GatewaySiteSetup, GatewaySnapshot};
    use tagway_core::bots;
    use tagway_core::event::SenderRank;
    use tagway_core::metrics::Metrics;
    use tagway_storage::profile::{
        self, ProfileService, ProfileUpdate, SqliteProfileStore, update_of,
    };
    use tagway_storage::store::{CommitSyncMode, SqliteStore};
    use tagway_vendors::test_support;

    /// Returns a test gateway whose pages may read their visitor's plan and orders.
    async fn start_with_profiles() -> (TestGateway, Arc<ProfileService>, tempfile::TempDir) {
        let mut gateway = start_gateway().await;
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let schemas = [profile::MIGRATIONS];
        let store = SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, metrics.clone())
            .unwrap();
        let limits_of = profile::ProfileLimits::new(1000, 10, 10);
        let settings = profile::ProfileSettings::small(limits_of);
        let store = Arc::new(SqliteProfileStore::new(Arc::new(store), limits_of));
        let runtime = tokio::runtime::Handle::current();
        let profiles = Arc::new(ProfileService::new(store, &settings, metrics.clone(), runtime));
        gateway.gateway = gateway.gateway.with_profiles(profiles.clone());
        let text = "activity = true\nanonymous_retain = \"1d\"\n\
            public = [\"traits.plan\", 'activity[\"Order\"].count']";
        let setup = GatewaySiteSetup {
            id: gateway.site,
            name: "shop".into(),
            settings: GatewaySiteSettings {
                privacy: Arc::default(),
                placeholder_ids: Arc::default(),
                bots: bots::BotSettings { policy: bots::BotPolicy::Flag, score: 50 },
                shims: tagway_pages::script::ShimSettings::new(),
                mounts: Vec::new(),
                hosts: vec!["t.shop.example".to_owned()],
                origins: vec!["https://shop.example".to_owned()],
                write_key: None,
                server_token: None,
                origin: None,
            },
            visitor: tagway_core::visitor::test_support::settings(),
            cookie_issuers: Vec::new(),
            origin: None,
            sdk: tagway_pages::script::test_support::sdk(),
            integrations: Vec::new(),
            public: test_support::settings(text, profile::SiteProfileSettings::read).public,
        };
        let geo = tagway_core::geo::test_support::zurich();
        gateway.gateway.reload(GatewaySnapshot::new(limits(), 0.0, geo, vec![setup], &metrics));
        (gateway, profiles, folder)
    }

    #[tokio::test]
    async fn page_reads_the_public_profile_of_its_own_visitor() {
        let (gateway, profiles, _folder) = start_with_profiles().await;
        let answer = gateway.request(page("/e"), r#"{"type":"track","event":"Order"}"#).await;
        let cookies = answer.fields.get_all("set-cookie").iter();
        let cookies: Vec<_> =
            cookies.filter_map(|it| it.to_str().unwrap().split(';').next()).collect();
        let cookies = cookies.join("; ");
        let event = gateway.events().await.remove(0);
        let traits = json!({ "plan": "pro", "email": "jo@x.example" });
        let activity = profile::Activity::of(
            &event,
            &profile::EmptyCounterSet,
            &profile::UserAgentParser::default(),
        );
        let traits = traits.as_object().unwrap().clone();
        let update = ProfileUpdate { traits, activity, ..update_of(&event) };
        profiles.apply(gateway.site, 1, vec![update]).await.unwrap();
        let asked = to("GET", "/me").header("origin", "https://shop.example");
        let answer = gateway.request(asked.header("cookie", &cookies), "").await;
        assert_eq!(answer.status, 200);
        let expected =
            json!({ "traits": { "plan": "pro" }, "activity": { "Order": { "count": 1 } } });
        assert_eq!(answer.json(), expected);
        assert_eq!(answer.fields["cache-control"], "no-store");
        assert_eq!(answer.fields["access-control-allow-origin"], "https://shop.example");
        assert_eq!(answer.fields["access-control-allow-credentials"], "true");
        let asked = to("GET", "/me").header("sec-fetch-site", "cross-site");
        assert_eq!(gateway.request(asked.header("cookie", &cookies), "").await.json(), json!({}));
        let nobody = gateway.request(to("GET", "/me"), "").await;
        assert_eq!((nobody.status.as_u16(), nobody.json()), (200, json!({})));
        let forged = gateway.request(to("GET", "/me").header("cookie", "_tw=AAAA"), "").await;
        assert_eq!(forged.json(), json!({}));
        let foreign = to("GET", "/me").header("origin", "https://evil.example");
        assert_eq!(gateway.request(foreign.header("cookie", &cookies), "").await.status, 403);
        assert_eq!(gateway.request(page("/me"), "").await.status, 405);
    }

    #[tokio::test]
    async fn page_that_sends_a_user_id_reads_nothing_of_the_user() {
        let (gateway, profiles, _folder) = start_with_profiles().await;
        let answer = gateway.request(page("/e"), r#"{"type":"track","event":"Order"}"#).await;
        let cookies = answer.fields.get_all("set-cookie").iter();
        let cookies: Vec<_> =
            cookies.filter_map(|it| it.to_str().unwrap().split(';').next()).collect();
        let cookies = cookies.join("; ");
        let victim = |traits: serde_json::Value| ProfileUpdate {
            rank: SenderRank::Server,
            user: profile::Identity::of(profile::IdentityKind::User, Some("victim")),
            traits: traits.as_object().unwrap().clone(),
            ..ProfileUpdate::default()
        };
        profiles.apply(gateway.site, 1, vec![victim(json!({ "plan": "pro" }))]).await.unwrap();
        let claim = r#"{"type":"identify","userId":"victim"}"#;
        gateway.request(page("/e").header("cookie", &cookies), claim).await;
        let claimed = gateway.events().await.pop().unwrap();
        assert_eq!(claimed.user_id.as_deref(), Some("victim"));
        let me =
            async || gateway.request(to("GET", "/me").header("cookie", &cookies), "").await.json();
        let mut update = update_of(&claimed);
        profiles.apply(gateway.site, 2, vec![update.clone()]).await.unwrap();
        assert_eq!(me().await, json!({}));
        update.rank = SenderRank::Proven;
        profiles.apply(gateway.site, 3, vec![update]).await.unwrap();
        assert_eq!(me().await, json!({ "traits": { "plan": "pro" } }), "once it is proven");
    }

    #[tokio::test]
    async fn site_without_public_paths_has_no_route() {
        assert_eq!(start_gateway().await.request(to("GET", "/me"), "").await.status, 404);
    }
}
