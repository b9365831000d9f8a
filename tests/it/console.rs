//! The console's accounts with the real program: login by a link, session, logout, tokens, and the audit log.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{Answer, Process, SITE, TAGWAY, raw};

/// A gateway with the file of its settings.
struct ConsoleGateway {
    process: Process,
    folder: tempfile::TempDir,
}

impl ConsoleGateway {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
        Self { process: Process::start(&data, &file, SITE), folder }
    }

    /// Stops the program, runs `change` over the database, and starts it again.
    fn restart(self, change: impl FnOnce(&rusqlite::Connection)) -> Self {
        let Self { process, folder } = self;
        process.terminate();
        let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
        let database = rusqlite::Connection::open(data.join("tagway.db")).unwrap();
        change(&database);
        database.close().unwrap();
        Self { process: Process::start(&data, &file, SITE), folder }
    }

    /// Runs a command of the program for this gateway.
    fn run(&self, arguments: &[&str]) -> Output {
        let admin = self.process.admin.to_string();
        let mut command = Command::new(TAGWAY);
        command.arg("--config").arg(self.folder.path().join("tagway.toml"));
        command.args(arguments).args(["--admin", &admin]).output().unwrap()
    }

    /// Runs a command that succeeds, and returns its output.
    fn output(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Sends a request as a browser with this cookie does.
    fn browse(&self, line: &str, cookie: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (method, path) = line.split_once(' ').unwrap();
        let request = format!(
            "{method} /api/v1/{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-type: application/json\r\nsec-fetch-site: same-origin\r\ncookie: {cookie}\r\n\
             content-length: {}\r\n\r\n{body}",
            self.process.admin,
            body.len()
        );
        raw(self.process.admin, request.as_bytes()).unwrap()
    }

    /// The code of the link that `tagway console login` prints.
    fn login_code(&self) -> String {
        let output = self.output(&["console", "login"]);
        let link = output.lines().next().unwrap();
        let base = format!("http://{}/#/login?code=", self.process.admin);
        link.strip_prefix(&base).unwrap_or_else(|| panic!("{output}")).to_owned()
    }
}

/// The cookie of an answer, without its attributes.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn link_of_the_command_line_begins_a_session() {
    let gateway = ConsoleGateway::start();
    let setup = gateway.browse("GET me", "", &Value::Null);
    assert_eq!((setup.status, &setup.json()["setup"]), (401, &json!(true)));
    let code = json!({ "code": gateway.login_code() });
    let first = gateway.browse("POST session/link", "", &code);
    assert_eq!((first.status, &first.json()["must_set_password"]), (200, &json!(true)));
    assert_eq!(gateway.browse("POST session/link", "", &code).status, 401, "used up");
    let body = json!({ "name": "ana", "new": "correct horse battery" });
    let set = gateway.browse("POST me/password", &cookie(&first), &body);
    assert_eq!(set.status, 200, "{set:?}");
    let session = cookie(&set);
    let me = gateway.browse("GET me", &session, &Value::Null).json();
    assert_eq!(
        (&me["name"], &me["role"], &me["via"]),
        (&json!("ana"), &json!("admin"), &json!("session"))
    );
    assert_eq!(gateway.browse("GET dead", &session, &Value::Null).status, 200);

    // Sessions outlive a restart.
    let gateway = gateway.restart(|_| {});
    assert_eq!(gateway.browse("GET me", &session, &Value::Null).status, 200);
    assert_eq!(gateway.browse("DELETE session", &session, &Value::Null).status, 200);
    assert_eq!(gateway.browse("GET me", &session, &Value::Null).status, 401);
    let login = json!({ "name": "ana", "password": "correct horse battery" });
    assert_eq!(gateway.browse("POST session", "", &login).status, 200);
    let link = gateway.output(&["console", "login", "--name", "ana"]);
    assert!(link.contains("It logs in ana. It works once"), "{link}");
    let unknown = gateway.run(&["console", "login", "--name", "eve"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn commands_work_with_an_api_token_within_its_rights() {
    let gateway = ConsoleGateway::start();
    let code = json!({ "code": gateway.login_code() });
    let first = gateway.browse("POST session/link", "", &code);
    let body = json!({ "new": "correct horse battery" });
    let session = cookie(&gateway.browse("POST me/password", &cookie(&first), &body));
    let viewer = json!({ "name": "monitor", "role": "viewer", "personal": false });
    let made = gateway.browse("POST tokens", &session, &viewer).json();
    let token = made["token"].as_str().unwrap();
    gateway.output(&["destinations", "ls", "--token", token]);
    gateway.output(&["dead", "ls", "--token", token]);
    for command in [
        &["dead", "retry", "1"][..],
        &["console", "login"],
        &["export", "ann"],
        &["console", "verify"],
    ] {
        let refused = gateway.run(&[command, &["--token", token]].concat());
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && error.contains("403"), "{command:?}: {error}");
        assert!(!error.contains(token), "{error}");
    }
}

#[test]
fn verify_finds_a_changed_audit_log() {
    let gateway = ConsoleGateway::start();
    for _ in 0..3 {
        gateway.login_code();
    }
    assert_eq!(gateway.output(&["console", "verify"]), "the audit log is whole: 3 rows\n");
    let gateway = gateway.restart(|database| {
        let changed = "UPDATE audit SET actor = 'eve' WHERE id = 2";
        assert_eq!(database.execute(changed, []).unwrap(), 1);
    });
    let broken = gateway.run(&["console", "verify"]);
    let error = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(broken.status.code() == Some(1) && error.contains("row 2 "), "{error}");
}
