//! Web sessions over the network: login, cookie, proof, logout, and requests of foreign pages.

use super::*;

const PASSWORD: &str = "correct horse battery";

/// A browser with the cookie of a session.
pub(super) struct TestBrowser<'s> {
    running: &'s TestAdminServer,
    cookie: String,
}

/// The fields of a browser's request from the console's own page.
const OWN_PAGE: &str = "Content-Type: application/json\r\nSec-Fetch-Site: same-origin\r\n";

impl TestAdminServer {
    /// Logs in with a body, and returns status, cookie and answer.
    async fn log_in(&self, path: &str, body: &Value) -> (u16, String, Value) {
        let body = body.to_string();
        let request = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{OWN_PAGE}\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let answer = self.raw(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        (status, cookie.unwrap_or_default().to_owned(), serde_json::from_str(body).unwrap())
    }

    /// The code of a link that the command line makes.
    async fn login_code(&self, name: &str) -> String {
        let (status, link) =
            self.ask_json("POST /api/v1/console/link", &json!({ "name": name })).await;
        assert_eq!(status, 200, "{link}");
        let code = link["code"].as_str().unwrap().to_owned();
        assert_eq!(link["link"], format!("http://{}/#/login/{code}", self.address));
        code
    }

    /// The browser of the first admin, named `ana`, who has just set a password.
    pub(super) async fn first_admin(&self) -> TestBrowser<'_> {
        let code = self.login_code("ana").await;
        let mut browser = TestBrowser::new(self, "session/link", &json!({ "code": code })).await;
        let body = json!({ "new": PASSWORD });
        let (status, cookie, _) = browser.change_cookie("POST me/password", &body).await;
        assert_eq!(status, 200);
        browser.cookie = cookie;
        browser
    }
}

impl<'s> TestBrowser<'s> {
    async fn new(running: &'s TestAdminServer, path: &str, body: &Value) -> Self {
        let (status, cookie, answer) = running.log_in(path, body).await;
        assert_eq!(status, 200, "{answer}");
        Self { running, cookie: cookie.split(';').next().unwrap().to_owned() }
    }

    /// Sends a request of the console's own page.
    pub(super) async fn ask(&self, line: &str, body: &Value) -> (u16, Value) {
        self.ask_with(line, OWN_PAGE, body).await
    }

    async fn ask_with(&self, line: &str, fields: &str, body: &Value) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let fields = format!("Cookie: theme=dark; {}\r\n{fields}", self.cookie);
        let line = format!("{method} /api/v1/{path}");
        let (status, text) = self.running.ask(&line, &fields, &body).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Sends a request whose answer has a new cookie.
    async fn change_cookie(&self, line: &str, body: &Value) -> (u16, String, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let body = body.to_string();
        let request = format!(
            "{method} /api/v1/{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{OWN_PAGE}\
             Cookie: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.running.address,
            self.cookie,
            body.len()
        );
        let answer = self.running.raw(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = cookie.unwrap_or_default().split(';').next().unwrap().to_owned();
        (status, cookie, serde_json::from_str(body).unwrap())
    }
}

#[tokio::test]
async fn first_login_sets_a_password_before_anything_else() {
    let running = TestAdminServer::start().await;
    let (status, problem) = running.ask("GET /api/v1/me", "", "").await;
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!((status, &problem["setup"]), (401, &json!(true)));
    let code = running.login_code("ana").await;
    let (status, cookie, me) = running.log_in("session/link", &json!({ "code": code })).await;
    assert_eq!(
        (status, &me["must_set_password"], &me["role"]),
        (200, &json!(true), &json!("admin"))
    );
    let attributes = "; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800";
    assert!(cookie.starts_with("tagway=") && cookie.ends_with(attributes), "{cookie}");
    let (status, ..) = running.log_in("session/link", &json!({ "code": code })).await;
    assert_eq!(status, 401, "a link is used once");
    let mut browser =
        TestBrowser { running: &running, cookie: cookie.split(';').next().unwrap().to_owned() };
    for line in ["GET dead", "GET accounts", "POST destinations/pause"] {
        let (status, problem) = browser.ask(line, &Value::Null).await;
        assert_eq!((status, &problem["field"]), (403, &json!("password")), "{line}");
    }
    let (status, problem) = browser.ask("POST me/password", &json!({ "new": "short" })).await;
    assert_eq!((status, &problem["field"]), (400, &json!("new")));
    let body = json!({ "new": PASSWORD, "name": "Ana" });
    let (status, cookie, me) = browser.change_cookie("POST me/password", &body).await;
    assert_eq!(
        (status, &me["name"], &me["must_set_password"]),
        (200, &json!("Ana"), &json!(false))
    );
    assert_eq!(browser.ask("GET me", &Value::Null).await.0, 401, "the session is a new one");
    browser.cookie = cookie;
    let (status, me) = browser.ask("GET me", &Value::Null).await;
    assert_eq!((status, &me["via"], &me["secure"]), (200, &json!("session"), &json!(false)));
    assert_eq!(browser.ask("GET dead", &Value::Null).await.0, 200);
    assert_eq!(browser.ask("DELETE session", &Value::Null).await.0, 200);
    assert_eq!(browser.ask("GET me", &Value::Null).await.0, 401);
    let acts: Vec<_> = running.audit_rows().await.into_iter().map(|[act, ..]| act).collect();
    let acts: Vec<&str> = acts.iter().map(String::as_str).collect();
    assert_eq!(
        acts,
        [
            "console.link",
            "session.begin",
            "session.begin",
            "destination.pause",
            "password.change",
            "password.change",
            "session.end"
        ]
    );
}

#[tokio::test]
async fn password_login_is_constant_limited_and_confidential() {
    let running = TestAdminServer::start().await;
    running.first_admin().await;
    let login = |name: &str, password: &str| json!({ "name": name, "password": password });
    let (status, _, me) = running.log_in("session", &login("ANA", PASSWORD)).await;
    assert_eq!((status, &me["name"]), (200, &json!("ana")));
    let wrong = running.log_in("session", &login("ana", "hunter2 hunter2")).await;
    assert_eq!(wrong, running.log_in("session", &login("eve", PASSWORD)).await);
    assert_eq!((wrong.0, &wrong.2["detail"]), (401, &json!("wrong name or password")));
    for _ in 0..3 {
        assert_eq!(running.log_in("session", &login("eve", "x")).await.0, 401);
    }
    let limited = running.log_in("session", &login("ana", PASSWORD)).await;
    assert_eq!((limited.0, limited.1.as_str()), (429, ""));
    let fields = "Content-Type: application/json\r\nX-Forwarded-For: 198.51.100.1\r\n";
    let body = login("ana", PASSWORD).to_string();
    let (status, problem) = running.ask("POST /api/v1/session", fields, &body).await;
    assert!(status == 403 && problem.contains("trusted_proxies"), "{status} {problem}");
    let rows = running.audit_rows().await;
    let shown = format!("{rows:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(PASSWORD) && !shown.contains("eve"));
    let failed = rows.iter().filter(|[act, _, _, detail]| {
        act == "session.begin" && detail == "refused: 401 Unauthorized"
    });
    assert_eq!(failed.count(), 5, "not the limited ones");
}

#[tokio::test]
async fn requests_of_foreign_pages_are_rejected_despite_the_cookie() {
    let running = TestAdminServer::start().await;
    let browser = running.first_admin().await;
    let one = json!({ "ids": [7] });
    let json = "Content-Type: application/json\r\n";
    let same_host = format!("{json}Origin: http://{}\r\n", running.address);
    let cases = [
        (format!("{json}Sec-Fetch-Site: same-origin\r\n"), 200),
        (same_host.clone(), 200),
        (format!("{same_host}Sec-Fetch-Site: cross-site\r\n"), 403),
        (format!("{json}Sec-Fetch-Site: same-site\r\n"), 403),
        (format!("{json}Sec-Fetch-Site: none\r\n"), 403),
        (format!("{json}Origin: https://evil.example\r\n"), 403),
        (json.to_owned(), 403),
        ("Sec-Fetch-Site: same-origin\r\nContent-Type: text/plain\r\n".to_owned(), 415),
        ("Sec-Fetch-Site: same-origin\r\n".to_owned(), 415),
    ];
    for (fields, expected) in cases {
        let (status, answer) = browser.ask_with("POST dead/drop", &fields, &one).await;
        assert_eq!(status, expected, "{fields} {answer}");
    }
    let read = async |fields: &str| browser.ask_with("GET dead", fields, &Value::Null).await.0;
    assert_eq!(read("").await, 200);
    assert_eq!(read("Sec-Fetch-Site: none\r\n").await, 200);
    assert_eq!(read("Sec-Fetch-Site: cross-site\r\n").await, 403);
    let code = running.login_code("ana").await;
    let fields = "Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n";
    let body = json!({ "code": code }).to_string();
    let (status, _) = running.ask("POST /api/v1/session/link", fields, &body).await;
    assert_eq!(status, 403, "a foreign page logs nobody in");
}

#[tokio::test]
async fn cookie_is_of_no_use_elsewhere() {
    let running = TestAdminServer::start().await;
    let browser = running.first_admin().await;
    let status = async |host: &str, cookie: &str| {
        let request = format!(
            "GET /api/v1/me HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Sec-Fetch-Site: same-origin\r\nCookie: {cookie}\r\n\r\n"
        );
        running.raw(&request).await.split(' ').nth(1).unwrap().to_owned()
    };
    let (own, port) = (running.address.to_string(), running.address.port());
    assert_eq!(status(&own, &browser.cookie).await, "200");
    assert_eq!(status(&format!("localhost:{port}"), &browser.cookie).await, "401");
    assert_eq!(status("ops.example", &browser.cookie).await, "401");
    assert_eq!(status(&own, &format!("__Host-{}", browser.cookie)).await, "401");
    let twice = format!("{}; {}", browser.cookie, browser.cookie);
    assert_eq!(status(&own, &twice).await, "401");
}

#[tokio::test]
async fn accounts_are_managed_after_a_proof() {
    let running = TestAdminServer::start().await;
    let browser = running.first_admin().await;
    let bob = json!({ "name": "bob", "role": "viewer", "personal": false, "sites": ["shop"] });
    running.clock.advance(5 * 60_000);
    for line in ["POST accounts", "POST tokens"] {
        let (status, problem) = browser.ask(line, &bob).await;
        assert_eq!((status, &problem["field"]), (403, &json!("proof")), "{line}");
    }
    let (status, problem) = browser.ask("POST session/prove", &json!({ "password": "x" })).await;
    assert_eq!((status, &problem["field"]), (403, &json!("password")));
    let (status, me) = browser.ask("POST session/prove", &json!({ "password": PASSWORD })).await;
    assert!(status == 200 && me["proved_until"].is_string(), "{me}");
    let (status, invited) = browser.ask("POST accounts", &bob).await;
    assert_eq!(status, 200, "{invited}");
    let unknown = json!({ "name": "x", "role": "viewer", "sites": ["nowhere"] });
    let (status, problem) = browser.ask("POST accounts", &unknown).await;
    assert_eq!((status, &problem["field"]), (400, &json!("sites")));
    let code = json!({ "code": invited["code"] });
    let mut invitee = TestBrowser::new(&running, "session/link", &code).await;
    let (_, cookie, _) =
        invitee.change_cookie("POST me/password", &json!({ "new": PASSWORD })).await;
    invitee.cookie = cookie;
    let (_, me) = invitee.ask("GET me", &Value::Null).await;
    assert_eq!((&me["sites"], &me["role"]), (&json!(["shop"]), &json!("viewer")));
    let (_, sessions) = invitee.ask("GET sessions", &Value::Null).await;
    assert_eq!(sessions["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!(invitee.ask("GET sessions?all=true", &Value::Null).await.0, 403);
    let (_, all) = browser.ask("GET sessions?all=true", &Value::Null).await;
    let of_bob = all["rows"].as_array().unwrap().iter().find(|row| row["account"] == "bob");
    let id = of_bob.unwrap()["id"].as_str().unwrap();
    let own = sessions["rows"][0]["id"].as_str().unwrap();
    assert_eq!(id, own);
    let line = format!("PATCH accounts/{}", invited["id"]);
    let (status, changed) = browser.ask(&line, &json!({ "sites": null, "role": "editor" })).await;
    assert_eq!(
        (status, &changed["sites"], &changed["role"]),
        (200, &json!(null), &json!("editor"))
    );
    assert_eq!(invitee.ask("GET me", &Value::Null).await.0, 401, "the rights changed");
    let me = browser.ask("GET accounts", &Value::Null).await.1["rows"][0]["id"].clone();
    let last = browser.ask(&format!("PATCH accounts/{me}"), &json!({ "disabled": true })).await;
    assert_eq!(last.0, 409);
    assert_eq!(browser.ask(&format!("DELETE sessions/{own}"), &Value::Null).await.0, 404);
    let rows = running.audit_rows().await;
    let find = |act: &str| rows.iter().find(|row| row[0] == act && !row[3].starts_with("refused"));
    let expected = ["account.invite", "", "bob", "viewer, shop"].map(str::to_owned);
    assert_eq!(find("account.invite"), Some(&expected));
    let expected = ["account.change", "", "bob", "editor, all sites"].map(str::to_owned);
    assert_eq!(find("account.change"), Some(&expected));
}
