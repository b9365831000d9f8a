"""Serves the site with a database of its own, and writes the port when it listens.

    serve.py DIRECTORY
"""

import os
import sys

os.environ["OFFICE_DATA"] = sys.argv[1]
os.environ["DJANGO_SETTINGS_MODULE"] = "office.settings"

import django  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.staticfiles.handlers import StaticFilesHandler  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *args):
        pass


django.setup()
# Without migrations of its own the site's table comes with the others.
call_command("migrate", run_syncdb=True, verbosity=0)
users = get_user_model()
if not users.objects.exists():
    users.objects.create_superuser("ada", "ada@office.example", "lovelace")
server = ThreadedWSGIServer(("127.0.0.1", 0), QuietHandler)
server.set_app(StaticFilesHandler(get_wsgi_application()))
print(server.server_port, flush=True)
server.serve_forever()
