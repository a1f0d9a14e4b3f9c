"""A backup that is made while a client writes all the time, and what is restored of it: exactly what had been
answered until one moment, on each database and from each to another."""

import gzip
import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
import unittest
import uuid

from room import BINARY, LOG, Room
from test_storage import Database, all_of

POSTGRES = os.environ.get("OPSROOM_TEST_POSTGRES_URL")
MARIADB = os.environ.get("OPSROOM_TEST_MYSQL_URL")


class Client(threading.Thread):
    """Writes a secret, then a schedule, then a log line, and again; knows what was answered."""

    def __init__(self, room, key):
        super().__init__(daemon=True)
        self.room, self.key = room, key
        self.values = []  # what each secret is, from before it is sent
        self.answered = {"secrets": 0, "schedules": 0, "lines": 0}
        self.wrong = None
        self.done = threading.Event()

    def send(self, what, path, body):
        status, answer = self.room.request("POST", path, body, key=self.key)
        if status != 200:
            raise AssertionError(f"{path}: {status} {answer}")
        self.answered[what] += 1

    def run(self):
        try:
            while not self.done.is_set():
                number = len(self.values)
                self.values.append(f"value {number} {uuid.uuid4()}")
                self.send("secrets", "/secrets", {"path": f"s-{number:05}", "value": self.values[number]})
                schedule = {"name": f"r-{number:05}", "cron": "@yearly", "operation": "list_jobs"}
                self.send("schedules", "/schedules", schedule)
                self.send("lines", "/logs/ingest", {"text": f"the line {number:05} of all", "service": "backup"})
        except Exception as error:
            self.wrong = error

    def end(self):
        self.done.set()
        self.join()
        if self.wrong:
            raise self.wrong


class Backup:
    """`source` and `target` are the URLs of database servers, or None for SQLite."""

    source = target = None

    def database(self, server):
        return self.enterContext(Database(server)) if server else None

    def use(self, url):
        os.environ.pop("DATABASE_URL", None)
        if url:
            os.environ["DATABASE_URL"] = url
        self.addCleanup(os.environ.pop, "DATABASE_URL", None)

    def test_a_backup_under_load_restores_what_had_been_answered_at_one_moment(self):
        self.use(self.database(self.source))
        # The shortest lease: what the saved server ran is given up soon.
        lease = {"OPSROOM__JOBS__LEASE_SECONDS": "10"}
        room = self.enterContext(Room(environment=lease))
        key = room.key()
        (room.data / "files" / "a.log").write_text(LOG * 40)
        client = Client(room, key)
        client.start()
        while client.answered["lines"] < 20 and not client.wrong:
            time.sleep(0.05)
        job = {"path": "a.log", "background": True}
        self.assertEqual(room.request("POST", "/logs/anomalies", job, key=key)[0], 202)
        for number in range(3):
            archive = room.folder / f"{number}.tar.gz"
            before = dict(client.answered)
            room.command("backup", str(archive))
            after = dict(client.answered)
            self.assertGreater(sum(after.values()), sum(before.values()), "nobody wrote meanwhile")
        self.assertEqual(archive.stat().st_mode & 0o777, 0o600)
        client.end()
        again = room.command("backup", str(archive), check=False)
        self.assertEqual(again.returncode, 5, again.stderr)
        room.stop()
        self.nothing_secret(archive, room, client)

        self.use(self.database(self.target))
        copy = Room(environment=lease)
        self.addCleanup(shutil.rmtree, copy.folder, ignore_errors=True)
        refused = copy.command("restore", str(archive), check=False)
        self.assertEqual(refused.returncode, 6, refused.stderr)
        self.assertIn(str(copy.data / "master.key"), refused.stderr)
        self.assertLessEqual({one.name for one in copy.data.iterdir()}, {"opsroom.lock"})
        shutil.copy(room.data / "master.key", copy.data / "master.key")
        copy.command("restore", str(archive))
        copy.start()
        self.addCleanup(copy.stop)
        self.holds_a_prefix(copy, client, key, before, after)
        twice = copy.command("restore", str(archive), check=False)
        self.assertEqual(twice.returncode, 5, twice.stderr)

    def nothing_secret(self, archive, room, client):
        text = gzip.decompress(archive.read_bytes())
        self.assertIn(b"s-00000", text)
        master = (room.data / "master.key").read_text().split()
        operator = (room.data / "operator.key").read_text().strip()
        for secret in [*client.values, *master, *map(str.upper, master), operator]:
            self.assertNotIn(secret.encode(), text)
        for value in master:
            self.assertNotIn(bytes.fromhex(value), text)
        with tarfile.open(archive) as tar:
            names = tar.getnames()
        self.assertEqual((names[0], names[-1]), ("manifest.json", "sums.json"))
        for name in ("master.key", "operator.key", "opsroom.db", "opsroom.lock"):
            self.assertFalse([one for one in names if name in one])

    def holds_a_prefix(self, copy, client, key, before, after):
        secrets = sorted(one["path"] for one in all_of(copy, "list-secrets"))
        schedules = sorted(one["name"] for one in all_of(copy, "list-schedules"))
        counted = copy.request("POST", "/logs/count", {"query": "service:backup"}, key=key)
        self.assertEqual(counted[0], 200, "the key of before is good: " + str(counted[1]))
        lines = counted[1]["count"]
        # Each had been answered before it began, or was sent before it ended; one more may have been on its way.
        for what, found in [("secrets", len(secrets)), ("schedules", len(schedules)), ("lines", lines)]:
            self.assertLessEqual(before[what], found, what)
            self.assertLessEqual(found, after[what] + 1, what)
        self.assertEqual(secrets, [f"s-{number:05}" for number in range(len(secrets))])
        self.assertEqual(schedules, [f"r-{number:05}" for number in range(len(schedules))])
        # Of one moment: a schedule is written after its secret. Lines are of a moment right after it.
        self.assertIn(len(secrets) - len(schedules), (0, 1))
        self.assertGreaterEqual(lines, len(schedules) - 1)
        for number in range(0, len(secrets), max(1, len(secrets) // 20)):
            status, given = copy.request("GET", f"/secrets/s-{number:05}", key=key)
            self.assertEqual((status, given["fields"]["value"]), (200, client.values[number]))
        verdict = json.loads(copy.command("verify-audit").stdout)
        self.assertTrue(verdict["intact"], verdict)
        for _ in range(80):
            states = {one["state"] for one in all_of(copy, "list-jobs")}
            if not states & {"queued", "running"}:
                break
            time.sleep(0.5)
        self.assertTrue(states and states <= {"succeeded", "interrupted"}, states)
        self.assertEqual((copy.data / "files" / "a.log").read_text(), LOG * 40)
        self.assertEqual(copy.request("POST", "/secrets", {"path": "new", "value": "new"}, key=key)[0], 200)


class Sqlite(Backup, unittest.TestCase):
    def test_a_restore_that_is_killed_can_be_made_again(self):
        self.use(None)
        room = self.enterContext(Room())
        key = room.key()
        for number in range(30):
            (room.data / "files" / f"{number}.log").write_text(LOG * 20 + str(number))
        room.request("POST", "/secrets", {"path": "a", "value": "b"}, key=key)
        archive = room.folder / "a.tar.gz"
        room.command("backup", str(archive))
        for number in range(6):
            copy = Room()
            self.addCleanup(shutil.rmtree, copy.folder, ignore_errors=True)
            copy.data.mkdir(mode=0o700)
            shutil.copy(room.data / "master.key", copy.data / "master.key")
            command = [BINARY, "--data-dir", str(copy.data), "restore", str(archive)]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.05 + 0.2 * number)
            process.kill()
            # It ended well before it could be killed, or it can be made again.
            process.wait()
            again = copy.command("restore", str(archive), check=False)
            self.assertIn(again.returncode, (0, 5), again.stderr)
            copy.start()
            self.addCleanup(copy.stop)
            self.assertEqual(copy.request("GET", "/secrets/a", key=key)[1]["fields"]["value"], "b")
            for log in range(30):
                self.assertTrue((copy.data / "files" / f"{log}.log").read_text().endswith(str(log)))
            copy.stop()


@unittest.skipUnless(POSTGRES, "no PostgreSQL server is named")
class SqliteToPostgres(Backup, unittest.TestCase):
    target = POSTGRES


@unittest.skipUnless(POSTGRES and MARIADB, "no PostgreSQL and MariaDB servers are named")
class PostgresToMariaDb(Backup, unittest.TestCase):
    source, target = POSTGRES, MARIADB


@unittest.skipUnless(MARIADB, "no MariaDB server is named")
class MariaDbToSqlite(Backup, unittest.TestCase):
    source = MARIADB


if __name__ == "__main__":
    unittest.main()
