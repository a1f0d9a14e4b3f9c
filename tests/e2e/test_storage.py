"""Nothing that was answered is lost: when the server is killed at any moment, and when the database goes
away and comes back. On SQLite, and on the servers that OPSROOM_TEST_POSTGRES_URL and
OPSROOM_TEST_MYSQL_URL name."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
import unittest
import urllib.parse
import uuid

from room import LOG, Room


def client(url, statement):
    """Runs a statement with the database's own client."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.startswith("postgres"):
        command = ["psql", "--quiet", url, "--command", statement]
    else:
        command = ["mariadb", "--no-defaults", f"--host={parts.hostname}", f"--port={parts.port}",
                   f"--user={parts.username}", f"--execute={statement}"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


class Database:
    """`with Database(url) as url:` is an empty database of its own on that server."""

    def __init__(self, server):
        self.server = server
        self.name = "e2e_" + uuid.uuid4().hex

    def __enter__(self):
        client(self.server, f"CREATE DATABASE {self.name}")
        return urllib.parse.urlsplit(self.server)._replace(path="/" + self.name).geturl()

    def __exit__(self, *_):
        force = " WITH (FORCE)" if self.server.startswith("postgres") else ""
        client(self.server, f"DROP DATABASE {self.name}{force}")


class Wire:
    """A connection to a database server that can be cut and mended."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.there = (parts.hostname, parts.port)
        self.pairs = []
        self.listener = None
        self.port = 0
        self.mend()
        self.url = parts._replace(netloc=f"{parts.username}@127.0.0.1:{self.port}").geturl()

    def mend(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.there)
            self.pairs += [near, far]
            for one, other in [(near, far), (far, near)]:
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, one, other):
        try:
            while part := one.recv(65536):
                other.sendall(part)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        # Only this wakes the thread that accepts.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.pairs:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
        self.pairs.clear()


def all_of(room, command, *arguments):
    items, cursor = [], []
    while True:
        page = room.operation(command, "--limit", "200", *arguments, *cursor)
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = ["--cursor", page["next"]]


class Storage:
    """What holds on each database. `server` is the URL of a database server, or None for SQLite."""

    server = None

    @property
    def alone(self):
        """Whether only one server can use the database."""
        return self.server is None

    def setUp(self):
        self.url = self.enterContext(Database(self.server)) if self.server else None

    def room(self, url=None):
        url = url or self.url
        # The shortest lease: what a killed server ran is given up soon.
        environment = {"OPSROOM__JOBS__LEASE_SECONDS": "10", **({"DATABASE_URL": url} if url else {})}
        os.environ.pop("DATABASE_URL", None)
        if url:
            # For the commands that look after it when it is stopped.
            os.environ["DATABASE_URL"] = url
            self.addCleanup(os.environ.pop, "DATABASE_URL", None)
        return self.enterContext(Room(environment=environment))

    def test_kill_at_any_moment_loses_nothing_that_was_answered(self):
        room = self.room()
        (room.data / "files" / "a.log").write_text(LOG * 40)
        key = room.key()
        chance = random.Random(7)
        keys, jobs = set(), set()
        for _ in range(4):
            stop = threading.Event()

            def keep(path, body, found, answers, stop=stop):
                while not stop.is_set():
                    try:
                        status, answer = room.request("POST", path, body, key=key)
                    except OSError:
                        continue
                    if status in (200, 202):
                        answers.add(found(answer))

            made = lambda answer: answer["api_key"]["id"]
            started = lambda answer: answer["job_id"]
            job = {"path": "a.log", "background": True}
            threads = [threading.Thread(target=keep, args=("/api-keys", {"name": "k"}, made, keys)) for _ in range(2)]
            threads.append(threading.Thread(target=keep, args=("/logs/anomalies", job, started, jobs)))
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.3, 1.5))
            room.stop(signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join()
            room.start()
        self.assertTrue(keys and jobs)
        verdict = json.loads(room.command("verify-audit").stdout)
        self.assertTrue(verdict["intact"])
        self.assertLessEqual(keys, {one["id"] for one in all_of(room, "list-api-keys")})
        records = all_of(room, "list-audit", "--operation", "create_api_key")
        self.assertGreaterEqual(sum(record["outcome"] == "ok" for record in records), len(keys))
        # Nothing was made without a trace, answered or not: at once where one server has the database, after an
        # hour where another one might still be at it.
        if self.alone:
            self.assertGreaterEqual(len(records), len(all_of(room, "list-api-keys")))
        for _ in range(60):
            states = {one["id"]: one["state"] for one in all_of(room, "list-jobs")}
            if not {"queued", "running"} & set(states.values()):
                break
            time.sleep(0.5)
        self.assertLessEqual(jobs, set(states))
        self.assertLessEqual(set(states.values()), {"succeeded", "interrupted"})


class Sqlite(Storage, unittest.TestCase):
    def test_a_stopped_server_leaves_one_whole_file_and_a_file_that_is_no_database_is_said(self):
        room = self.room()
        room.key()
        room.stop()
        self.assertFalse((room.data / "opsroom.db-wal").exists())
        self.assertEqual(len(room.operation("list-api-keys")["items"]), 1)
        (room.data / "opsroom.db").write_bytes(b"this is no database" * 1000)
        done = room.command("list-jobs", check=False)
        self.assertIn("opsroom.db", done.stderr)
        self.assertEqual(room.command("check", check=False).returncode, 12)


class Served(Storage):
    """A database server can go away."""

    def test_a_database_that_goes_away_and_comes_back(self):
        wire = Wire(self.url)
        self.addCleanup(wire.cut)
        room = self.room(wire.url)
        key = room.key()
        before = room.operation("list-api-keys")["items"]
        (room.data / "files" / "a.log").write_text(LOG * 100)
        status, job = room.request("POST", "/logs/anomalies", {"path": "a.log", "background": True}, key=key)
        self.assertEqual(status, 202)
        wire.cut()
        for method, path, body in [("GET", "/jobs", None), ("POST", "/api-keys", {"name": "x"})]:
            status, answer = room.request(method, path, body, key=key)
            self.assertEqual((status, answer["error"]["kind"]), (503, "unavailable"), answer)
            self.assertIn("database does not answer", answer["error"]["message"])
        self.assertEqual(room.request("GET", "/health/ready")[0], 503)
        self.assertEqual(room.request("GET", "/health/live")[0], 200)
        wire.mend()
        for _ in range(120):
            if room.request("GET", "/health/ready")[0] == 200:
                break
            time.sleep(0.25)
        self.assertEqual(room.request("POST", "/api-keys", {"name": "y"}, key=key)[0], 200)
        self.assertEqual(len(room.operation("list-api-keys")["items"]), len(before) + 1)
        for _ in range(120):
            state = room.operation("get-job", job["job_id"])["state"]
            if state not in ("queued", "running"):
                break
            time.sleep(0.25)
        self.assertEqual(state, "succeeded")
        self.assertTrue(json.loads(room.command("verify-audit").stdout)["intact"])


@unittest.skipUnless(os.environ.get("OPSROOM_TEST_POSTGRES_URL"), "no PostgreSQL server is named")
class Postgres(Served, unittest.TestCase):
    server = os.environ.get("OPSROOM_TEST_POSTGRES_URL")


@unittest.skipUnless(os.environ.get("OPSROOM_TEST_MYSQL_URL"), "no MariaDB server is named")
class MariaDb(Served, unittest.TestCase):
    server = os.environ.get("OPSROOM_TEST_MYSQL_URL")


if __name__ == "__main__":
    unittest.main()
