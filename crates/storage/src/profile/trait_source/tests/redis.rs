//! Tests with a real Redis, which is stopped and restarted.

use std::time::Duration;

use serde_json::{Value, json};

use super::http::server;
use super::redis_server::TestRedisServer;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_source_reads_hashes_and_reconnects() {
    let Some(mut redis) = TestRedisServer::start() else { return };
    let fill = |redis: &TestRedisServer| {
        let mut connection = redis.connection();
        let hash = [("plan", "pro"), ("score", "7"), ("tags", r#"["a"]"#), ("note", "{half")];
        for (name, value) in hash {
            let mut set = ::redis::cmd("HSET");
            set.arg("profile:u").arg(name).arg(value).exec(&mut connection).unwrap();
        }
        ::redis::cmd("SET").arg("profile:text").arg("x").exec(&mut connection).unwrap();
        let mut big = ::redis::cmd("HSET");
        big.arg("profile:big").arg("x").arg("y".repeat(2000)).exec(&mut connection).unwrap();
    };
    fill(&redis);
    let text =
        format!("kind = \"redis\"\nurl = \"{}\"\nkey = \"profile:{{user_id}}\"\n", redis.url());
    let bed = TraitSourceTestBed::new(LookupTimeoutPolicy::Wait).with(&text);
    let events = ["u", "text", "big", "nobody", "u"].map(event);
    let found = bed.profiles.lookup(SITE, &events, false).await.unwrap();
    let known = json!({ "plan": "pro", "score": 7, "tags": ["a"], "note": "{half" });
    let traits = |index: usize| Value::Object(found[index].view.traits.clone());
    assert_eq!((traits(0), traits(4)), (known.clone(), known));
    assert_eq!((traits(1), traits(2), traits(3)), (json!({}), json!({}), json!({})));
    assert_eq!((bed.counted("miss"), bed.counted("refused")), (4, 2));
    redis.end();
    assert!(bed.plan("other").await.is_err());
    assert_eq!(bed.plan("u").await.unwrap(), "pro", "it is remembered");
    redis.run();
    fill(&redis);
    let mut connection = redis.connection();
    ::redis::cmd("HSET").arg(&["profile:other", "plan", "free"]).exec(&mut connection).unwrap();
    let came_back = async {
        while bed.plan("other").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bed.plan("other").await.unwrap()
    };
    let plan = tokio::time::timeout(30 * SECOND, came_back).await.unwrap();
    assert_eq!(plan, "free");
}

#[tokio::test]
async fn redis_under_tls_refuses_a_server_without_tls() {
    let (port, _, _tasks) = server(&[]).await;
    let text =
        format!("kind = \"redis\"\nurl = \"rediss://127.0.0.1:{port}/\"\nkey = \"{{user_id}}\"");
    let bed = TraitSourceTestBed::new(LookupTimeoutPolicy::Wait).with(&text);
    // A defect would end the read instead.
    assert!(matches!(bed.plan("u").await, Err(ProfileError::Outside(_))));
}

/// Runs a server that answers each request for a person with these bytes, and everything else with OK.
/// It ends with the process.
fn liar(reply: &'static [u8], is_endless: bool) -> u16 {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move |mut stream: std::net::TcpStream| {
        let mut request = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut request) {
            let asked = String::from_utf8_lossy(&request[..length]).into_owned();
            let people = asked.matches("HGETALL").count();
            let others = asked.matches("\r\n*").count() + 1 - people;
            stream.write_all(&b"+OK\r\n".repeat(others))?;
            for _ in 0..people {
                stream.write_all(reply)?;
                if is_endless {
                    loop {
                        stream.write_all(&[b'x'; 65536])?;
                    }
                }
            }
        }
        Ok::<_, std::io::Error>(())
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

async fn read_reply(reply: &'static [u8], is_endless: bool) -> Result<Value, ProfileError> {
    let port = liar(reply, is_endless);
    let text =
        format!("kind = \"redis\"\nurl = \"redis://127.0.0.1:{port}/\"\nkey = \"{{user_id}}\"");
    let bed = TraitSourceTestBed::new(LookupTimeoutPolicy::Wait).with(&text);
    let found = bed.profiles.lookup(SITE, &[event("u")], false).await?;
    Ok(Value::Object(found[0].view.traits.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malicious_redis_replies_cost_no_memory_and_stop_no_other_person() {
    assert_eq!(
        read_reply(b"*2\r\n$4\r\nplan\r\n$3\r\npro\r\n", false).await.unwrap()["plan"],
        "pro"
    );
    // Odd, of another type, too many items: failures of this key alone.
    for reply in [&b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"[..], b":7\r\n", b"$-1\r\n"] {
        assert_eq!(read_reply(reply, false).await.unwrap(), json!({}), "{reply:?}");
    }
    // The client's own parser would reserve the announced memory, and the process would end.
    for reply in [
        &b"*1000000000\r\n"[..],
        b"*9223372036854775807\r\n",
        b"%4000000000\r\n",
        b"$9223372036854775807\r\n",
    ] {
        assert!(read_reply(reply, false).await.is_err(), "{reply:?}");
    }
    assert!(read_reply(b"*2\r\n$1\r\na\r\n$90000000000\r\n", true).await.is_err());
    for reply in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"|4611686018427387903\r\n+a\r\n", b"\x16\x03"] {
        assert!(read_reply(reply, false).await.is_err(), "{reply:?}");
    }
}
