//! Tests of sources over HTTP, working and failing.

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// Runs an HTTP server that answers each path with a status and a body, and never answers an unknown
/// path. Returns its port, the requests it received, and its tasks.
pub(super) async fn server(
    answers: &'static [(&'static str, u16, &'static str)],
) -> (u16, Arc<Mutex<Vec<String>>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, mut tasks) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
    let asked = seen.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = asked.clone();
            connections.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap().to_owned();
                asked.lock().push(head);
                let Some((_, status, body)) = answers.iter().find(|(known, ..)| *known == path)
                else {
                    return std::future::pending().await;
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\
                     location: /p/known\r\nconnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.ok();
            });
        }
    });
    (port, seen, tasks)
}

#[tokio::test]
async fn an_http_source_answers_refuses_or_fails() {
    let huge = format!(r#"{{"data":{{"plan":"{}"}}}}"#, "x".repeat(3000));
    let answers = vec![
        ("/p/known", 200, r#"{"data":{"plan":"pro"}}"#),
        ("/p/a%2F..%3F", 200, r#"{"data":{"plan":"hostile"}}"#),
        ("/p/empty", 200, r#"{"data":null}"#),
        ("/p/elsewhere", 200, r#"{"traits":{}}"#),
        ("/p/none", 204, ""),
        ("/p/nobody", 404, ""),
        ("/p/list", 200, r#"{"data":[1]}"#),
        ("/p/page", 200, "<html>"),
        ("/p/huge", 200, &*huge.leak()),
        ("/p/bad", 400, ""),
        ("/p/denied", 401, ""),
        ("/p/moved", 302, ""),
        ("/p/late", 408, ""),
        ("/p/busy", 429, ""),
        ("/p/broken", 500, ""),
    ];
    let (port, seen, _tasks) = server(answers.leak()).await;
    let bed = TraitSourceTestBed::new(LookupTimeoutPolicy::Wait).with(&format!(
        "kind = \"http\"\nurl = \"http://127.0.0.1:{port}/p/{{user_id}}\"\npath = \"/data\"\n\
         headers = {{ authorization = \"Bearer t0ken\" }}"
    ));
    assert_eq!(bed.plan("known").await.unwrap(), "pro");
    assert_eq!(bed.plan("a/..?").await.unwrap(), "hostile");
    assert!(seen.lock().iter().all(|head| head.contains("authorization: Bearer t0ken")));
    for user in ["empty", "elsewhere", "none", "nobody"] {
        assert_eq!(bed.plan(user).await.unwrap(), Value::Null, "{user}");
    }
    assert_eq!(bed.counted("refused"), 0);
    let refused = ["list", "page", "huge", "bad", "denied", "moved"];
    for user in refused {
        assert_eq!(bed.plan(user).await.unwrap(), Value::Null, "{user}");
    }
    assert_eq!(bed.counted("refused"), refused.len() as u64);
    for (user, code) in [("late", 408), ("busy", 429), ("broken", 500)] {
        let error = bed.plan(user).await.unwrap_err();
        let ProfileError::Outside(TraitSourceError::Status(status)) = error else {
            panic!("{error}")
        };
        assert_eq!(status, code);
    }
    let hanging = bed.plan("hanging").await;
    assert!(matches!(hanging, Err(ProfileError::Outside(TraitSourceError::Timeout))));
    let asked = seen.lock().len();
    for user in [".", ".."] {
        assert_eq!(bed.plan(user).await.unwrap(), Value::Null);
    }
    assert_eq!(seen.lock().len(), asked, "nobody is called so");
}

#[tokio::test]
async fn address_guard_applies_to_sources() {
    let bed = TraitSourceTestBed::new(LookupTimeoutPolicy::Wait);
    for host in ["127.0.0.1:1", "localhost:1"] {
        let text = format!("kind = \"http\"\nurl = \"http://{host}/{{user_id}}\"");
        let settings = settings(&text);
        bed.profiles.set_source(SITE, &"shop".into(), Some(&settings), false).unwrap();
        let error = bed.plan("u").await.unwrap_err();
        assert!(
            matches!(error, ProfileError::Outside(TraitSourceError::Forbidden)),
            "{host}: {error}"
        );
    }
}

#[tokio::test]
async fn source_with_unchanged_settings_keeps_its_cache() {
    let (port, seen, _tasks) = server(&[("/known", 200, r#"{"plan":"pro"}"#)]).await;
    let text = format!("kind = \"http\"\nurl = \"http://127.0.0.1:{port}/{{user_id}}\"\n");
    let bed = TraitSourceTestBed::new(LookupTimeoutPolicy::Wait).with(&text).with(&text);
    assert_eq!(bed.plan("known").await.unwrap(), "pro");
    let bed = bed.with(&text);
    assert_eq!(bed.plan("known").await.unwrap(), "pro");
    assert_eq!(seen.lock().len(), 1);
    let bed = bed.with(&format!("{text}headers = {{ x = \"other\" }}"));
    assert_eq!(bed.plan("known").await.unwrap(), "pro");
    assert_eq!(seen.lock().len(), 2);
    bed.profiles.set_source(SITE, &"shop".into(), None, true).unwrap();
    assert_eq!(bed.plan("known").await.unwrap(), Value::Null);
}
