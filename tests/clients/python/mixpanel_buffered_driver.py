"""mixpanel with its buffered consumer, which keeps what failed, and sends it with the next flush."""

import time

from mixpanel import BufferedConsumer, Mixpanel

from mixpanel_driver import calls, erase, track, urls


def open(host, key, fail):
    client = Mixpanel(key, BufferedConsumer(max_size=20, **urls(host)))
    client.patience = 40
    return client


def flush(client):
    for attempt in range(client.patience):
        try:
            return client._consumer.flush()
        except Exception:
            if attempt == client.patience - 1:
                raise
            time.sleep(0.25)
