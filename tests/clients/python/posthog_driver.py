"""posthog: `host`."""

from posthog import Posthog


def open(host, key, fail):
    return Posthog(
        key, host=host + "/posthog", on_error=fail, flush_interval=0.1, max_retries=8, personal_api_key="phx_1")


def calls(client):
    client.set(distinct_id="u1", properties={"plan": "pro"})
    client.set_once(distinct_id="u1", properties={"first": 1})
    client.capture(
        "Order Completed", distinct_id="u1", properties={"total": 25.5, "$ip": "203.0.113.9"}, groups={"company": "acme"})
    client.capture("$pageview", distinct_id="u1", properties={"$current_url": "https://shop.example/"})
    client.group_identify("company", "acme", {"tier": "gold"}, distinct_id="u1")
    client.alias(previous_id="a1", distinct_id="u1")
    client.capture_exception(ValueError("boom"), distinct_id="u1")
    assert client.get_all_flags("u1") == {}
    assert client.get_all_flags_and_payloads("u1")["featureFlags"] == {}
    assert not client.feature_enabled("flag", "u1")
    client.get_remote_config_payload("flag")
    client.load_feature_flags()


def track(client, user, name, properties):
    client.capture(name, distinct_id=user, properties=properties)


def flush(client):
    client.flush(60)


def close(client):
    client.shutdown()
