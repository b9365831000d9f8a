//! A real Redis, which ends and comes back.

use std::time::Duration;

use serde_json::{Value, json};

use super::http::server;
use super::redis_server::RedisServer;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_source_reads_hashes_and_comes_back() {
    let Some(mut redis) = RedisServer::start() else { return };
    let fill = |redis: &RedisServer| {
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
    let bed = Bed::new(OnTimeout::Wait).with(&text);
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
async fn redis_under_tls_does_not_speak_to_a_server_without() {
    let (port, _, _tasks) = server(&[]).await;
    let text =
        format!("kind = \"redis\"\nurl = \"rediss://127.0.0.1:{port}/\"\nkey = \"{{user_id}}\"");
    let bed = Bed::new(OnTimeout::Wait).with(&text);
    // A defect would end the read instead.
    assert!(matches!(bed.plan("u").await, Err(ProfileError::Outside(_))));
}
