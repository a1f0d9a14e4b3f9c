"""A server of the built binary, in a folder of its own, for as long as a test needs it."""

import base64
import http.client
import json
import os
import pathlib
import quopri
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

BINARY = os.environ["OPSROOM_BINARY"]
WORK = os.environ["OPSROOM_WORK"]
PEERS = pathlib.Path(os.environ["OPSROOM_PEERS"])

# A log in which one request of 200 takes a way that no other takes.
LOG = "".join(
    f"2026-01-05 10:{n // 60:02}:{n % 60:02} INFO web request req-{n:04} started\n"
    f"2026-01-05 10:{n // 60:02}:{n % 60:02} INFO db request req-{n:04} read 3 rows\n"
    + (f"2026-01-05 10:{n // 60:02}:{n % 60:02} INFO db request req-{n:04} gave up waiting for a connection\n" if n == 137 else "")
    + f"2026-01-05 10:{n // 60:02}:{n % 60:02} INFO web request req-{n:04} answered 200\n"
    for n in range(200)
)


def forms(value):
    """How a value may be written down."""
    raw = value.encode()
    return {
        raw,
        base64.b64encode(raw).rstrip(b"="),
        base64.urlsafe_b64encode(raw).rstrip(b"="),
        raw.hex().encode(),
        raw.hex().upper().encode(),
        urllib.parse.quote(value, safe="").encode(),
        urllib.parse.quote_plus(value).encode(),
        quopri.encodestring(raw).strip(),
    }


# The fields of requests that hold what nobody may find afterwards.
SECRET_FIELDS = {"password", "new_password", "secret"}
# Where a secret is meant to lie.
KEPT = {"operator.key", "master.key"}


def secrets_of(path, body):
    """The values of a request that are secret; short ones stand in too many places by chance."""
    if not isinstance(body, dict):
        return set()
    found = {value for name, value in body.items() if name in SECRET_FIELDS}
    if path == "/secrets":
        found.update([body.get("value"), *(body.get("fields") or {}).values()])
    return {value for value in found if isinstance(value, str) and len(value) >= 8}


class Room:
    """`with Room() as room:` starts a server on a free port and stops it at the end; then none of the keys and
    secrets that were used with it is in its data folder or its log."""

    def __init__(self, *arguments, environment=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="room-", dir=WORK))
        self.data = self.folder / "data"
        self.arguments = arguments
        self.environment = environment or {}
        self.process = None
        named = [value for name, value in self.environment.items() if name.startswith("OPSROOM_SECRET_")]
        self.secrets = {value for value in named if len(value) >= 8}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        told = self.events()
        self.stop()
        try:
            self.search({"the events": told})
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        command = [BINARY, "--data-dir", str(self.data), "serve", "--port", "0", *self.arguments]
        environment = {**os.environ, **self.environment}
        with open(self.folder / "server.log", "a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        self.greeting = ""
        deadline = time.monotonic() + 60
        while "MCP" not in self.greeting:
            line = self.process.stdout.readline()
            if not line or time.monotonic() > deadline:
                raise AssertionError("the server did not start:\n" + (self.folder / "server.log").read_text()[-4000:])
            self.greeting += line
        self.url = re.search(r"http://[\d.:]+\d", self.greeting).group()

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)
        self.process.stdout.close()
        return self.process.returncode

    def events(self):
        """The events that are remembered; nothing where the server has ended or lets nobody in."""
        key = self.data / "operator.key"
        if self.process.poll() is not None or not key.exists():
            return b""
        headers = {"Authorization": f"Bearer {key.read_text().strip()}", "Last-Event-ID": "0"}
        told = b""
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + "/events", headers=headers), timeout=0.5) as answer:
                # They come at once; then there is silence.
                while part := answer.read1(65536):
                    told += part
        except (OSError, http.client.HTTPException):
            pass
        return told

    def nowhere(self):
        """None of the secrets is in the data folder, the log, the audit trail or the record of calls."""
        told = [self.operation(listed, "--limit", "200") for listed in ("list-audit", "list-calls")]
        self.stop()
        self.search({"the records": str(told).encode()})
        self.start()

    def search(self, places):
        """Looks for the secrets in every form, also in what the server left."""
        places["the log"] = (self.folder / "server.log").read_bytes()
        for path in self.data.rglob("*"):
            if path.is_file() and path.name not in KEPT and path.parent.name != "secrets.d":
                places[str(path.relative_to(self.data))] = path.read_bytes()
        for value in self.secrets:
            for form in forms(value):
                for place, contents in places.items():
                    if form in contents:
                        raise AssertionError(f"a secret of {len(value)} characters is in {place}: {contents[max(0, contents.index(form) - 200):contents.index(form) + 60]!r}")

    def command(self, *arguments, check=True, text_in=None):
        """Runs `opsroom ...` in this room's data folder."""
        command = [BINARY, "--data-dir", str(self.data), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, input=text_in, timeout=120)
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments}: exit {done.returncode}: {done.stderr}")
        return done

    def operation(self, *arguments):
        return json.loads(self.command(*arguments).stdout)

    def key(self, role="administrator", **more):
        flags = [part for name, value in more.items() for part in (f"--{name}", value)]
        name = f"test-{role}-{time.monotonic_ns()}"
        key = self.operation("create-api-key", "--name", name, "--role", role, *flags)["key"]
        self.secrets.add(key)
        return key

    def request(self, method, path, body=None, key=None, headers=None):
        """Answers (status, parsed JSON or text)."""
        self.secrets |= secrets_of(path, body)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        if data is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, raw = error.code, error.read()
        try:
            return status, json.loads(raw)
        except ValueError:
            return status, raw.decode(errors="replace")
