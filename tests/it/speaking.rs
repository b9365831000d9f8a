//! The identity model as a table: the power of a sender of each rank over a user that a server has
//! identified. With the real program, over HTTP.

use std::cell::Cell;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tagway_simulator::vendors::{SimulatorKind, VendorSimulator};

use crate::harness::{Answer, NO_RATES, Process, raw, send, settled, vendor, webhook_site};

const TOKEN: &str = "a-server-token-of-the-shop";
const LOGIN_KEY: &str = "a-login-key-of-the-shop";

/// Junk that more than fills a profile, in messages of some 8 KB.
const JUNK_MESSAGES: usize = 6;

/// The sender that acts in the name of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// A server of the site.
    Server,
    /// The user's browser, with a login proof in the message.
    Proven,
    /// The user's browser, which sent a login proof before.
    Bound,
    /// Any browser with its own cookie.
    Browser,
    /// Any client without a cookie.
    Stranger,
    /// The Segment API with the public key.
    WriteKey,
    /// Any browser, with a login proof of its own user.
    OtherUser,
    /// A link or an image, opened by the user's browser, which sent a login proof before.
    Get,
    /// Another site's page, in the user's browser, which sent a login proof before.
    CrossSite,
}

/// The action of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Ask for the user's public values, with the sender's cookie.
    Show,
    /// The same, after a page view with a device id of the user, and nothing else.
    ShowByDevice,
    /// The same, after an alias from the user to an id of the sender's own.
    ShowByAlias,
    /// Set a trait that the user does not have.
    AddTrait,
    /// Change a trait that a server set.
    ChangeServersTrait,
    /// Delete a trait that a server set.
    DeleteServersTrait,
    /// Change a trait that the user's browser set with a login proof.
    ChangeUsersTrait,
    /// Fill the profile, so that a server's next trait has no room.
    CrowdOut,
    /// Turn a consent that a server refused into a granted one.
    LoosenServersConsent,
    /// Turn a consent that the user refused, with a login proof, into a granted one.
    LoosenUsersConsent,
    /// Refuse a consent that a server granted.
    TightenConsent,
    /// Join the user to another user.
    Alias,
    /// Use a message id before a server does, so that the server's message is lost.
    TakeMessageId,
    /// Make the browser, which sent the user's login proof before, another user's.
    Rebind,
}

const YES: bool = true;
const NO: bool = false;

/// Name, sender, action, and true if it has power.
const CASES: &[(&str, Sender, Action, bool)] = &[
    ("a proven browser is shown its user", Sender::Proven, Action::Show, YES),
    ("a bound browser is shown its user", Sender::Bound, Action::Show, YES),
    ("a claim shows nothing", Sender::Browser, Action::Show, NO),
    ("a claim without a cookie shows nothing", Sender::Stranger, Action::Show, NO),
    ("a claim by the write key shows nothing", Sender::WriteKey, Action::Show, NO),
    ("another user's proof shows nothing", Sender::OtherUser, Action::Show, NO),
    ("a claimed device shows nothing", Sender::Browser, Action::ShowByDevice, NO),
    ("a device shows another user nothing", Sender::OtherUser, Action::ShowByDevice, NO),
    ("a claimed alias shows nothing", Sender::Browser, Action::ShowByAlias, NO),
    ("another user's alias shows nothing", Sender::OtherUser, Action::ShowByAlias, NO),
    ("a server adds a trait", Sender::Server, Action::AddTrait, YES),
    ("a proven browser adds a trait", Sender::Proven, Action::AddTrait, YES),
    ("a bound browser adds a trait", Sender::Bound, Action::AddTrait, YES),
    ("a claim adds a trait, as a claim", Sender::Browser, Action::AddTrait, YES),
    ("a server changes its trait", Sender::Server, Action::ChangeServersTrait, YES),
    ("a proven browser changes no server's trait", Sender::Proven, Action::ChangeServersTrait, NO),
    ("a bound browser changes no server's trait", Sender::Bound, Action::ChangeServersTrait, NO),
    ("a claim changes no server's trait", Sender::Browser, Action::ChangeServersTrait, NO),
    ("a stranger changes no server's trait", Sender::Stranger, Action::ChangeServersTrait, NO),
    ("a write key changes no server's trait", Sender::WriteKey, Action::ChangeServersTrait, NO),
    ("another user changes no server's trait", Sender::OtherUser, Action::ChangeServersTrait, NO),
    ("a GET changes no server's trait", Sender::Get, Action::ChangeServersTrait, NO),
    ("another site changes no server's trait", Sender::CrossSite, Action::ChangeServersTrait, NO),
    ("a server deletes its trait", Sender::Server, Action::DeleteServersTrait, YES),
    ("a claim deletes no server's trait", Sender::Browser, Action::DeleteServersTrait, NO),
    ("a stranger deletes no server's trait", Sender::Stranger, Action::DeleteServersTrait, NO),
    ("a proven browser deletes no server's trait", Sender::Proven, Action::DeleteServersTrait, NO),
    ("a server changes a user's trait", Sender::Server, Action::ChangeUsersTrait, YES),
    ("a proven browser changes its user's trait", Sender::Proven, Action::ChangeUsersTrait, YES),
    ("a bound browser changes its user's trait", Sender::Bound, Action::ChangeUsersTrait, YES),
    ("a claim changes no user's trait", Sender::Browser, Action::ChangeUsersTrait, NO),
    ("a stranger changes no user's trait", Sender::Stranger, Action::ChangeUsersTrait, NO),
    ("another user changes no user's trait", Sender::OtherUser, Action::ChangeUsersTrait, NO),
    ("a GET changes no user's trait", Sender::Get, Action::ChangeUsersTrait, NO),
    ("another site changes no user's trait", Sender::CrossSite, Action::ChangeUsersTrait, NO),
    ("a claim crowds nothing out", Sender::Browser, Action::CrowdOut, NO),
    ("a stranger crowds nothing out", Sender::Stranger, Action::CrowdOut, NO),
    ("a write key crowds nothing out", Sender::WriteKey, Action::CrowdOut, NO),
    ("a proven browser crowds no server out", Sender::Proven, Action::CrowdOut, NO),
    ("a server loosens its consent", Sender::Server, Action::LoosenServersConsent, YES),
    ("a claim loosens no consent", Sender::Browser, Action::LoosenServersConsent, NO),
    ("a stranger loosens no consent", Sender::Stranger, Action::LoosenServersConsent, NO),
    ("a GET loosens no consent", Sender::Get, Action::LoosenServersConsent, NO),
    ("another site loosens no consent", Sender::CrossSite, Action::LoosenServersConsent, NO),
    ("a user loosens their own consent", Sender::Proven, Action::LoosenUsersConsent, YES),
    ("a bound browser loosens its user's consent", Sender::Bound, Action::LoosenUsersConsent, YES),
    ("a claim loosens no user's consent", Sender::Browser, Action::LoosenUsersConsent, NO),
    ("a stranger loosens no user's consent", Sender::Stranger, Action::LoosenUsersConsent, NO),
    ("another user loosens no user's consent", Sender::OtherUser, Action::LoosenUsersConsent, NO),
    ("a GET loosens no user's consent", Sender::Get, Action::LoosenUsersConsent, NO),
    ("another site loosens no user's consent", Sender::CrossSite, Action::LoosenUsersConsent, NO),
    ("a proven browser refuses a consent", Sender::Proven, Action::TightenConsent, YES),
    ("a server joins two users", Sender::Server, Action::Alias, YES),
    ("a proven browser joins no other user", Sender::OtherUser, Action::Alias, NO),
    ("a claim joins no users", Sender::Browser, Action::Alias, NO),
    ("a write key joins no users", Sender::WriteKey, Action::Alias, NO),
    ("a server's message id is taken once", Sender::Server, Action::TakeMessageId, YES),
    ("a proven browser takes no server's id", Sender::Proven, Action::TakeMessageId, NO),
    ("a browser takes no server's id", Sender::Browser, Action::TakeMessageId, NO),
    ("a stranger takes no server's id", Sender::Stranger, Action::TakeMessageId, NO),
    ("a write key takes no server's id", Sender::WriteKey, Action::TakeMessageId, NO),
    ("a GET takes no server's id", Sender::Get, Action::TakeMessageId, NO),
    ("another user's proof rebinds the browser", Sender::OtherUser, Action::Rebind, YES),
    ("a claim rebinds no browser", Sender::Browser, Action::Rebind, NO),
    ("a GET rebinds no browser", Sender::Get, Action::Rebind, NO),
    ("another site rebinds no browser", Sender::CrossSite, Action::Rebind, NO),
];

/// The login proof of a user id.
fn proof(user: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(LOGIN_KEY.as_bytes()).unwrap();
    mac.update(user.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Shop {
    process: Process,
    _webhook: VendorSimulator,
    folder: tempfile::TempDir,
    /// The number of accepted events.
    accepted: Cell<u64>,
    /// The number of sent messages.
    sent: Cell<u64>,
}

impl Shop {
    async fn open() -> Self {
        let webhook = vendor(SimulatorKind::Webhook).await;
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
        let keys = format!(
            "write_key = \"shop-web\"\nbots = \"pass\"\nserver_token = \"{TOKEN}\"\n\
             login_key = \"{LOGIN_KEY}\"\n"
        );
        let site = webhook_site(webhook.address(), "");
        let site = site.replace("write_key = \"shop-web\"\n", &keys);
        let profiles =
            "[sites.profiles]\nactivity = true\npublic = [\"traits.plan\", \"user_id\"]\n";
        let process = Process::start(&data, &file, &format!("{NO_RATES}{site}{profiles}"));
        let (accepted, sent) = (Cell::new(0), Cell::new(0));
        Self { process, _webhook: webhook, folder, accepted, sent }
    }

    fn request(&self, request: (&str, &str), fields: &[(&str, &str)], body: &str) -> Answer {
        send(self.process.http, request, fields, body.as_bytes()).unwrap()
    }

    /// Sends a message that must be accepted.
    fn answer_to(&self, fields: &[(&str, &str)], path: &str, message: &Value) -> Answer {
        self.sent.set(self.sent.get() + 1);
        let mut message = message.clone();
        let id = format!("m{}", self.sent.get());
        message.as_object_mut().unwrap().entry("messageId").or_insert_with(|| id.into());
        let answer = self.request(("POST", path), fields, &message.to_string());
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        self.accepted.set(self.accepted.get() + 1);
        answer
    }

    fn server(&self, message: &Value) {
        let bearer = format!("Bearer {TOKEN}");
        let kind = message["type"].as_str().unwrap();
        self.answer_to(&[("authorization", &bearer)], &format!("/v1/{kind}"), message);
    }

    /// The cookie of a browser after its first page.
    fn browser(&self) -> String {
        let fields = [("origin", "https://shop.example")];
        let answer = self.answer_to(&fields, "/e", &json!({ "type": "page" }));
        answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }

    fn page(&self, cookie: &str, message: &Value) {
        let fields = [("origin", "https://shop.example"), ("cookie", cookie)];
        self.answer_to(&fields, "/e", message);
    }

    /// Waits until every accepted event is in the profiles and delivered.
    async fn rest(&self) {
        settled(self.process.admin, self.accepted.get()).await;
    }

    fn me(&self, cookie: &str) -> Value {
        let fields = [("origin", "https://shop.example"), ("cookie", cookie)];
        self.request(("GET", "/me"), &fields, "").json()
    }

    fn profile(&self, id: &str) -> Value {
        let token = std::fs::read_to_string(self.folder.path().join("data/admin.token")).unwrap();
        let body = json!({ "site": "shop", "id": id }).to_string();
        let request = format!(
            "POST /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            token.trim(),
            body.len()
        );
        let answer = raw(self.process.admin, request.as_bytes()).unwrap().json();
        answer["profiles"][0].clone()
    }
}

/// One row: a user that a server has identified, their browser, and a sender that acts in their name.
struct Case<'s> {
    shop: &'s Shop,
    user: String,
    other: String,
    /// The browser that the sender has, or abuses.
    cookie: String,
    sender: Sender,
}

impl<'s> Case<'s> {
    fn new(shop: &'s Shop, place: usize, sender: Sender) -> Self {
        let (user, other) = (format!("user-{place}"), format!("other-{place}"));
        let consent = json!({ "consent": { "categoryPreferences":
            { "marketing": false, "analytics": true } } });
        shop.server(&json!({ "type": "identify", "userId": user, "context": consent,
            "traits": { "plan": "gold" } }));
        let case = Self { shop, user, other, cookie: shop.browser(), sender };
        if matches!(sender, Sender::Bound | Sender::Get | Sender::CrossSite) {
            case.log_in(&case.cookie, &case.user);
        }
        if sender == Sender::OtherUser {
            case.log_in(&case.cookie, &case.other);
        }
        case
    }

    fn log_in(&self, cookie: &str, user: &str) {
        let message = json!({ "type": "identify", "userId": user, "proof": proof(user) });
        self.shop.page(cookie, &message);
    }

    /// Sends a message of the user's own browser, with a proof.
    fn user_says(&self, members: Value) {
        let cookie = self.shop.browser();
        let mut message =
            json!({ "type": "identify", "userId": self.user, "proof": proof(&self.user) });
        message.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        self.shop.page(&cookie, &message);
    }

    /// Sends a message in the name of a user.
    fn says(&self, user: &str, members: Value) {
        let mut message = json!({ "type": "identify", "userId": user });
        message.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let shop = self.shop;
        match self.sender {
            Sender::Server => shop.server(&message),
            Sender::Proven => {
                message["proof"] = proof(user).into();
                shop.page(&self.cookie, &message);
            }
            Sender::OtherUser => {
                message["proof"] = proof(&self.other).into();
                shop.page(&self.cookie, &message);
            }
            Sender::Bound | Sender::Browser => shop.page(&self.cookie, &message),
            Sender::Stranger => {
                shop.answer_to(&[("origin", "https://shop.example")], "/e", &message);
            }
            Sender::WriteKey => {
                message["writeKey"] = "shop-web".into();
                let path = format!("/v1/{}", message["type"].as_str().unwrap());
                shop.answer_to(&[], &path, &message);
            }
            Sender::Get => {
                use base64::Engine as _;
                let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
                let path = format!("/px.gif?data={}", engine.encode(message.to_string()));
                let fields = [("cookie", self.cookie.as_str())];
                assert_eq!(shop.request(("GET", &path), &fields, "").status, 200);
                shop.accepted.set(shop.accepted.get() + 1);
            }
            Sender::CrossSite => {
                let fields = [("cookie", self.cookie.as_str()), ("sec-fetch-site", "cross-site")];
                shop.answer_to(&fields, "/e", &message);
            }
        }
    }

    /// Performs the action; returns true if it had power.
    async fn has_power(&self, action: Action) -> bool {
        let (shop, user) = (self.shop, self.user.as_str());
        match action {
            Action::CrowdOut => {
                for n in 0..JUNK_MESSAGES {
                    let junk = format!("junk{n}");
                    self.says(user, json!({ "traits": { junk: "x".repeat(8000) } }));
                }
                shop.server(&json!({ "type": "identify", "userId": user,
                    "traits": { "vip": "yes" } }));
                !self.becomes("vip", "yes").await
            }
            Action::Alias => {
                shop.server(&json!({ "type": "identify", "userId": self.other,
                    "traits": { "own": "yes" } }));
                self.says(&self.other, json!({ "type": "alias", "previousId": user }));
                shop.rest().await;
                shop.profile(&self.other)["traits"]["plan"] == "gold"
            }
            Action::TakeMessageId => {
                let id = format!("order-of-{user}");
                self.says(user, json!({ "messageId": id }));
                let bearer = format!("Bearer {TOKEN}");
                let order = json!({ "type": "track", "event": "Order Completed", "userId": user,
                    "messageId": id, "anonymousId": "a", "properties": { "value": 5 } });
                shop.request(
                    ("POST", "/v1/track"),
                    &[("authorization", &bearer)],
                    &order.to_string(),
                );
                let is_lost = self.sender == Sender::Server;
                shop.accepted.set(shop.accepted.get() + u64::from(!is_lost));
                shop.rest().await;
                shop.profile(user)["activity"]["Order Completed"]["count"] != 1
            }
            Action::Rebind => {
                self.log_in(&self.cookie, user);
                self.says(&self.other, json!({}));
                self.says(&self.other, json!({ "type": "page" }));
                shop.rest().await;
                shop.me(&self.cookie)["user_id"] != user
            }
            Action::Show | Action::ShowByDevice | Action::ShowByAlias => self.shows(action).await,
            Action::LoosenServersConsent | Action::LoosenUsersConsent | Action::TightenConsent => {
                self.changes_consent(action).await
            }
            Action::AddTrait
            | Action::ChangeServersTrait
            | Action::DeleteServersTrait
            | Action::ChangeUsersTrait => self.changes_traits(action).await,
        }
    }

    /// Returns true if the sender's browser is shown any value of the user.
    async fn shows(&self, action: Action) -> bool {
        let (shop, user) = (self.shop, self.user.as_str());
        match action {
            Action::ShowByDevice => {
                // A separate value for each user.
                let number = user.trim_start_matches("user-");
                let ga = format!("GA1.1.17.{number}");
                let (device, id) = (format!("device-{number}"), format!("anonymous-{number}"));
                let shown = json!({ "context": { "clientIds": { "ga4": ga, "mixpanel": device } },
                    "anonymousId": id });
                self.user_says(shown.clone());
                let mut page = json!({ "type": "page" });
                page.as_object_mut().unwrap().extend(shown.as_object().unwrap().clone());
                shop.page(&format!("{}; _ga={ga}", self.cookie), &page);
                shop.rest().await;
                self.is_shown()
            }
            Action::ShowByAlias => {
                self.says(&self.other, json!({ "type": "alias", "previousId": user }));
                shop.rest().await;
                self.is_shown()
            }
            _ => {
                self.says(user, json!({}));
                shop.rest().await;
                self.is_shown()
            }
        }
    }

    /// Returns true if a trait has the sender's value.
    async fn changes_traits(&self, action: Action) -> bool {
        let (shop, user) = (self.shop, self.user.as_str());
        match action {
            Action::AddTrait => {
                self.says(user, json!({ "traits": { "city": "Bern" } }));
                self.becomes("city", "Bern").await
            }
            Action::DeleteServersTrait => {
                self.says(user, json!({ "traits": { "plan": null } }));
                shop.rest().await;
                shop.profile(user)["traits"]["plan"] != "gold"
            }
            Action::ChangeUsersTrait => {
                self.user_says(json!({ "traits": { "color": "red" } }));
                self.says(user, json!({ "traits": { "color": "blue" } }));
                self.becomes("color", "blue").await
            }
            _ => {
                self.says(user, json!({ "traits": { "plan": "free" } }));
                self.becomes("plan", "free").await
            }
        }
    }

    /// Returns true if a consent has the sender's value.
    async fn changes_consent(&self, action: Action) -> bool {
        let user = self.user.as_str();
        let grant = json!({ "consent": { "categoryPreferences": { "marketing": true } } });
        match action {
            Action::LoosenUsersConsent => {
                let refuse = json!({ "consent": { "categoryPreferences": { "ads": false } } });
                let grant = json!({ "consent": { "categoryPreferences": { "ads": true } } });
                self.user_says(json!({ "context": refuse }));
                self.says(user, json!({ "context": grant }));
                self.consents("ads").await == json!(true)
            }
            Action::TightenConsent => {
                let refuse =
                    json!({ "consent": { "categoryPreferences": { "analytics": false } } });
                self.says(user, json!({ "context": refuse }));
                self.consents("analytics").await == json!(false)
            }
            _ => {
                self.says(user, json!({ "context": grant }));
                self.consents("marketing").await == json!(true)
            }
        }
    }

    /// Returns true if the sender's browser is shown any value of the user.
    fn is_shown(&self) -> bool {
        let me = self.shop.me(&self.cookie);
        me["user_id"] == self.user.as_str() || me["traits"]["plan"] == "gold"
    }

    async fn becomes(&self, name: &str, value: &str) -> bool {
        self.shop.rest().await;
        self.shop.profile(&self.user)["traits"][name] == value
    }

    async fn consents(&self, category: &str) -> Value {
        self.shop.rest().await;
        self.shop.profile(&self.user)["consent"][category].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sender_has_only_the_power_of_its_rank_over_a_user() {
    let shop = Shop::open().await;
    let mut wrong = Vec::new();
    for (place, (name, sender, action, power)) in CASES.iter().enumerate() {
        let case = Case::new(&shop, place, *sender);
        let found = case.has_power(*action).await;
        if found != *power {
            wrong.push(format!("{name}: {found}; {}", shop.profile(&case.user)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}
