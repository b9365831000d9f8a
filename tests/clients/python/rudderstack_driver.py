"""rudder-sdk-python: the data plane as `host`."""

from rudderstack.analytics.client import Client

from segment_driver import close, flush, track
from spec import spec as calls


def open(host, key, fail):
    return Client(key, host=host + "/rudderstack", on_error=fail, upload_interval=0.1)
