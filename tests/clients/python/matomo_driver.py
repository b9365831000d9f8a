"""matomopy: the tracker's address and `token_auth`."""

from matomopy import MatomoTracker


def open(host, key, fail):
    return MatomoTracker(host + "/matomo/matomo.php", 1, token_auth=key)


def calls(client):
    client.set_user_id("u1").set_url("https://shop.example/").set_ip("203.0.113.9")
    client.track_page_view("Home")
    client.track_event("media", "play", "film", 5)
    client.track_goal(1, 10)
    client.track_site_search("lamps")
    client.track_action("https://elsewhere.example/", "link")
    client.track_ecommerce_order("o-1", 25.5)
    client.track_ping()
    client.ip = None


def track(client, user, name, properties):
    client.set_user_id(user).set_url("https://shop.example/").enable_bulk_tracking()
    client.track_event("lamps", name, str(properties["n"]) + properties.get("long", ""))


def flush(client):
    client.flush()
