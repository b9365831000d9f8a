"""Does line by line what a test says with the driver it names.

A driver has open(), calls(), track(), and erase(), flush() and close() where its SDK has. What a call raises is
an error that the SDK told of, not the end of the driver.
"""

import importlib
import json
import os
import sys
import threading

driver = importlib.import_module(sys.argv[1] + "_driver")
answers = os.fdopen(3, "w")
errors = []
client = None


def fail(error, *_):
    errors.append(str(error)[:300] or type(error).__name__)


# Some SDKs send in threads of their own, whose exceptions nobody else hears of.
threading.excepthook = lambda raised: fail(raised.exc_value)


def attempt(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        fail(error)


def special(properties):
    """What JSON has no words for, or is too long for a line."""
    made = {}
    if properties.get("nan"):
        made["odd"] = float("nan")
    if properties.get("long"):
        made["long"] = "x" * properties["long"]
    return made


def do(op, to):
    global client
    if op == "open":
        client = driver.open(to["host"], to["key"], fail)
    elif op == "calls":
        driver.calls(client)
        attempt(driver.flush, client)
    elif op == "track":
        for n in range(to["from"], to["to"]):
            properties = {"n": n, **special(to.get("properties", {}))}
            attempt(driver.track, client, to.get("user", "u%d" % (n % 7)), to.get("name", "Lamp Seen"), properties)
    elif op == "erase":
        attempt(driver.erase, client, to["user"])
        attempt(driver.flush, client)
    elif op == "flush":
        attempt(driver.flush, client)
    elif op == "close":
        attempt(getattr(driver, "close", driver.flush), client)


for line in sys.stdin:
    command = json.loads(line)
    failed = None
    try:
        do(command.pop("op"), command)
    except Exception as error:
        import traceback

        failed = traceback.format_exc()
    answers.write(json.dumps({"failed": failed, "errors": errors}) + "\n")
    answers.flush()
    errors.clear()
os._exit(0)
