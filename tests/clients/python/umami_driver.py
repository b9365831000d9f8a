"""umami-analytics: `set_url_base`. Without a login it shows `Bearer None` as its key."""

import umami


def open(host, key, fail):
    umami.set_url_base(host + "/umami")
    umami.set_website_id("w1")
    umami.set_hostname("shop.example")
    return umami


def calls(client):
    client.new_page_view("Home", "/", distinct_id="u1", ip_address="203.0.113.9")
    client.new_event("Order Completed", custom_data={"total": 25.5}, distinct_id="u1")
    client.new_revenue_event(25.5, "EUR", distinct_id="u1")
    assert client.heartbeat()


def track(client, user, name, properties):
    client.new_event(name, custom_data=properties, distinct_id=user)


def flush(client):
    pass
