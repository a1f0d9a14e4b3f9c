"""A server of the built binary, in a folder of its own, for as long as a test needs it."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
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


class Room:
    """`with Room() as room:` starts a server on a free port and stops it at the end."""

    def __init__(self, *arguments, environment=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="room-", dir=WORK))
        self.data = self.folder / "data"
        self.arguments = arguments
        self.environment = environment or {}
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
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
        return self.operation("create-api-key", "--name", f"test-{role}-{time.monotonic_ns()}", "--role", role, *flags)["key"]

    def request(self, method, path, body=None, key=None, headers=None):
        """Answers (status, parsed JSON or text)."""
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
