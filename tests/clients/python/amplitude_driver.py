"""amplitude-analytics: `server_url`."""

from amplitude import Amplitude, BaseEvent, Config, EventOptions, Identify, Revenue


def open(host, key, fail):
    def told(event, code, message=None):
        if code != 200:
            fail("%s %s" % (code, message))

    return Amplitude(key, Config(
        server_url=host + "/amplitude/2/httpapi", flush_interval_millis=100, callback=told))


def calls(client):
    who = EventOptions(user_id="u1")
    client.track(BaseEvent("Order Completed", user_id="u1", ip="203.0.113.9", event_properties={"total": 25.5}))
    client.identify(Identify().set("plan", "pro").set_once("first", 1).add("count", 1), who)
    client.set_group("company", "acme", who)
    client.group_identify("company", "acme", Identify().set("tier", "gold"), who)
    client.revenue(Revenue(price=12.75, quantity=2, product_id="p1"), who)


def track(client, user, name, properties):
    client.track(BaseEvent(name, user_id=user, event_properties=properties))


def flush(client):
    for sent in client.flush() or []:
        if sent:
            sent.result()


def close(client):
    flush(client)
    client.shutdown()
