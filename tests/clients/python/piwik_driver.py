"""piwikapi: `set_api_url`."""

from piwikapi.tracking import PiwikTracker, PiwikTrackerEcommerce


class Request:
    META = {"HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "SERVER_NAME": "shop.example", "HTTP_ACCEPT_LANGUAGE": "de"}
    COOKIES = {}

    def is_secure(self):
        return True


def open(host, key, fail):
    client = PiwikTrackerEcommerce(1, Request())
    client.set_api_url(host + "/matomo/matomo.php")
    client.set_token_auth(key)
    return client


def calls(client):
    client.set_ip("203.0.113.9")
    client.do_track_page_view("Home")
    client.do_track_action("https://elsewhere.example/", "link")
    client.do_track_goal(1, 10)
    client.add_ecommerce_item("p1", "Lamp", "Lamps", 12.75, 2)
    client.do_track_ecommerce_order("o-1", 25.5)
    client.ip = False


def track(client, user, name, properties):
    client.do_track_page_view("%s %d%s" % (name, properties["n"], properties.get("long", "")))


def flush(client):
    pass
