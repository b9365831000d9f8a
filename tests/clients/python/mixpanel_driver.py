"""mixpanel: the addresses of its consumer, which sends each call at once.

Its alias() speaks to Mixpanel itself, whatever the consumer's addresses are.
"""

import time

from mixpanel import Consumer, Mixpanel


def urls(host):
    return {name + "_url": "%s/mixpanel/%s" % (host, path) for name, path in
            {"events": "track", "people": "engage", "import": "import", "groups": "groups"}.items()}


def open(host, key, fail):
    return Mixpanel(key, Consumer(**urls(host)))


def calls(client):
    client.track("u1", "Order Completed", {"total": 25.5, "$user_id": "u1", "ip": "203.0.113.9"})
    client.import_data("key", "u1", "Imported", time.time(), {"$user_id": "u1"}, api_secret="secret")
    client.merge("key", "u1", "a1", api_secret="secret")
    client.people_set("u1", {"plan": "pro"})
    client.people_set_once("u1", {"first": 1})
    client.people_increment("u1", {"count": 1})
    client.people_append("u1", {"list": "x"})
    client.people_union("u1", {"list": ["y"]})
    client.people_remove("u1", {"list": "y"})
    client.people_unset("u1", ["old"])
    client.people_track_charge("u1", 25.5)
    client.people_clear_charges("u1")
    client.group_set("company", "acme", {"tier": "gold"})
    client.group_set_once("company", "acme", {"first": 1})
    client.group_union("company", "acme", {"list": ["y"]})
    client.group_remove("company", "acme", {"list": "y"})
    client.group_unset("company", "acme", ["old"])


def track(client, user, name, properties):
    client.track(user, name, {"$user_id": user, **properties})


def erase(client, user):
    client.people_delete(user)


def flush(client):
    pass
