"""snowplow-tracker: the endpoint of its emitter, and the token in a session of requests."""

import time

import requests
from snowplow_tracker import Emitter, PageView, ScreenView, SelfDescribing, SelfDescribingJson, StructuredEvent, Subject, Tracker


def open(host, key, fail):
    session = requests.Session()
    session.headers["Authorization"] = "Bearer " + key
    emitter = Emitter(host + "/snowplow", batch_size=10, session=session, max_retry_delay_seconds=2)
    return Tracker("n", [emitter], app_id="shop", encode_base64=False)


def event(name, data):
    return SelfDescribing(SelfDescribingJson("iglu:com.shop/%s/jsonschema/1-0-0" % name, data))


def calls(client):
    client.set_subject(Subject().set_user_id("u1").set_ip_address("203.0.113.9").set_useragent("Phone/1"))
    client.track(PageView("https://shop.example/", "Home"))
    client.track(ScreenView("s1", "Start"))
    client.track(StructuredEvent("media", "play", label="film", value=5.0))
    client.track(event("order_completed", {"total": 25.5}))


def track(client, user, name, properties):
    client.set_subject(Subject().set_user_id(user))
    client.track(event("lamp_seen", properties))


def flush(client):
    emitter = client.emitters[0]
    client.flush()
    end = time.time() + 60
    while (emitter.retry_timer.is_active() or emitter.event_store.size()) and time.time() < end:
        time.sleep(0.05)
