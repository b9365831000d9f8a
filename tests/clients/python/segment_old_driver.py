"""analytics-python: `host`."""

from analytics.client import Client

from spec import spec as calls


def open(host, key, fail):
    return Client(key, host=host, on_error=fail, upload_interval=0.1)


def track(client, user, name, properties):
    client.track(user, name, properties)


def flush(client):
    client.flush()


def close(client):
    client.shutdown()
