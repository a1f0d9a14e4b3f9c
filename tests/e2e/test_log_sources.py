"""Log sources: buckets, servers and folders of others, read where they lie."""

import asyncio
import gzip
import json
import shutil
import signal
import time
import unittest

from room import Room
from senders import Azurite, Ssh, Wire
from stores import ID, KEY, Cos, aws

ALLOW = {"OPSROOM__EGRESS__ALLOW_ADDRESSES": "127.0.0.1", "OPSROOM_SECRET_COS_KEY": KEY}


def hour(h, fault=False):
    """An hour of a service's log; with a fault, something goes wrong in its first ten minutes."""
    lines = []
    for n in range(3600):
        at = f"2025-11-21 {h:02}:{n // 60:02}:{n % 60:02}"
        lines.append(f"{at} INFO web request req-{h}-{n} took {n * 7 % 90 + 10} ms")
        if fault and 120 <= n < 420 and n % 3 == 0:
            lines.append(f"{at} ERROR db replica 10.0.3.{n % 9} lost its connection to the primary")
    return ("\n".join(lines) + "\n").encode()


def cos_place(cos, **more):
    return {
        "kind": "cos",
        "bucket": "logs-1250000000",
        "endpoint": cos.url,
        "access_key_id": ID,
        "secret_access_key": "secret://env/COS_KEY",
        **more,
    }


class AtSources(unittest.TestCase):
    """A room that may reach this machine, without sources and files when a test begins."""

    @classmethod
    def setUpClass(cls):
        secrets = {"OPSROOM_SECRET_S3_KEY": "b", "OPSROOM_SECRET_AZURE_KEY": Azurite.key}
        cls.room = cls.enterClassContext(Room(environment={**ALLOW, **secrets}))

    def setUp(self):
        self.key = self.room.key()
        self.call = lambda path, body: self.room.request("POST", path, body, key=self.key)
        for source in self.room.operation("list-log-sources")["items"]:
            self.room.operation("delete-log-source", source["name"])
        shutil.rmtree(self.room.data / "files", ignore_errors=True)
        (self.room.data / "files").mkdir()


class Sources(AtSources):
    def test_cos_lists_downloads_resumes_and_checks(self):
        objects = {f"app/2025/11/21/{h:02}/web.log.gz": gzip.compress(hour(h)) for h in range(8, 12)}
        objects["app/2025/11/21/10/日志 +%.log"] = b"2025-11-21 10:00:00 INFO odd name\n" * 200_000
        with Cos(objects) as cos:
            room, call = self.room, self.call
            place = cos_place(cos, key_pattern="app/%Y/%m/%d/%H/")
            self.assertEqual(call("/logs/sources", {"name": "bucket", "place": place})[0], 200)
            cos.page = 2
            status, listed = call("/logs/sources/bucket/objects", {})
            self.assertEqual((status, len(listed["items"])), (200, 5), listed)
            # Only the prefixes of the range are asked for.
            cos.requests.clear()
            _, listed = call("/logs/sources/bucket/objects", {"from": "2025-11-21T10:00:00Z", "until": "2025-11-21T11:00:00Z"})
            self.assertEqual({item["key"] for item in listed["items"]}, {k for k in objects if "/10/" in k})
            self.assertEqual({query["prefix"] for _, query, _ in cos.requests}, {"app/2025/11/21/10/"})
            odd = "app/2025/11/21/10/日志 +%.log"
            cos.cut_after[odd] = 1_000_000
            cos.busy = 2
            status, done = call("/logs/sources/bucket/download", {"to": "down", "unpack": True})
            self.assertEqual((status, done["stored"], done["failed"]), (200, 5, 0), done)
            self.assertIn((f"/{odd}", "bytes=1000000-"), [(path, range) for path, _, range in cos.requests])
            files = room.data / "files" / "down"
            self.assertEqual((files / odd).read_bytes(), objects[odd])
            self.assertEqual((files / "app/2025/11/21/09/web.log").read_bytes(), hour(9))
            _, done = call("/logs/sources/bucket/download", {"to": "down", "unpack": True})
            self.assertEqual((done["stored"], done["skipped"]), (0, 5))
            cos.wrong_checksum.add(odd)
            _, done = call("/logs/sources/bucket/download", {"to": "again", "prefix": "app/2025/11/21/10/"})
            self.assertEqual((done["stored"], done["failed"]), (1, 1))
            self.assertIn("CRC-64", done["failures"][0]["message"])
            self.assertFalse((room.data / "files/again" / odd).exists())

    def test_s3_lists_and_downloads_and_an_object_that_changes_is_not_mixed(self):
        import boto3

        moto = aws()
        try:
            url = moto.url
            s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
            s3.create_bucket(Bucket="logs")
            for n in range(25):
                s3.put_object(Bucket="logs", Key=f"app/{n:03} +x.log", Body=hour(n % 24))
            room, call = self.room, self.call
            place = {
                "kind": "s3",
                "bucket": "logs",
                "region": "us-east-1",
                "endpoint": url,
                "access_key_id": "a",
                "secret_access_key": "secret://env/S3_KEY",
            }
            self.assertEqual(call("/logs/sources", {"name": "s3", "place": place})[0], 200)
            _, listed = call("/logs/sources/s3/objects", {"prefix": "app/00"})
            self.assertEqual(len(listed["items"]), 10, listed)
            _, estimate = call("/logs/sources/s3/estimate", {})
            self.assertEqual(estimate["bytes"], sum(len(hour(n % 24)) for n in range(25)))
            _, done = call("/logs/sources/s3/download", {"to": "down"})
            self.assertEqual((done["stored"], done["failed"]), (25, 0), done)
            self.assertEqual((room.data / "files/down/app/003 +x.log").read_bytes(), hour(3))
        finally:
            moto.stop()

    def test_azure_lists_and_downloads(self):
        objects = {f"app/2025/11/21/{n:02}/x y +%.log": hour(n) for n in range(12)}
        with Azurite() as azurite:
            room, call = self.room, self.call
            azurite.put("logs", query="restype=container", blob=False)
            for name, body in objects.items():
                azurite.put(f"logs/{name}", body)
            place = {
                "kind": "azure",
                "bucket": "logs",
                "endpoint": azurite.url,
                "access_key_id": Azurite.account,
                "secret_access_key": "secret://env/AZURE_KEY",
                "key_pattern": "app/%Y/%m/%d/%H/",
            }
            self.assertEqual(call("/logs/sources", {"name": "azure", "place": place})[0], 200)
            status, listed = call("/logs/sources/azure/objects", {"from": "2025-11-21T03:00:00Z", "until": "2025-11-21T05:00:00Z"})
            self.assertEqual((status, [item["key"] for item in listed["items"]]), (200, sorted(objects)[3:5]), listed)
            _, done = call("/logs/sources/azure/download", {"to": "down"})
            self.assertEqual((done["stored"], done["failed"]), (12, 0), done)
            for name, body in objects.items():
                self.assertEqual((room.data / "files/down" / name).read_bytes(), body)
            _, missing = call("/logs/sources/azure/download", {"to": "down", "keys": ["none"]})
            self.assertIn("no object `none`", missing["warnings"][0])
            wrong = {**place, "access_key_id": "somebody"}
            call("/logs/sources", {"name": "wrong", "place": wrong})
            self.assertFalse(call("/logs/sources/wrong/test", {})[1]["ok"])

    def test_sftp_lists_downloads_resumes_and_knows_its_server(self):
        big = b"2025-11-21 10:00:00 INFO a line of the big file\n" * 200_000
        files = {f"app/2025/11/21/{n:02}/web.log": hour(n) for n in range(8, 12)} | {"app/2025/11/21/10/big x.log": big}
        with Ssh() as ssh, Wire(ssh.port, 3_000_000) as wire:
            room, call = self.room, self.call
            (room.data / "secrets.d").mkdir(mode=0o700, exist_ok=True)
            (room.data / "secrets.d/ssh").touch(mode=0o600)
            (room.data / "secrets.d/ssh").write_text(ssh.key)
            for name, body in files.items():
                (ssh.files / name).parent.mkdir(parents=True, exist_ok=True)
                (ssh.files / name).write_bytes(body)
            (ssh.files / "app/link.log").symlink_to("/etc/passwd")
            place = {
                "kind": "sftp",
                "endpoint": f"sftp://127.0.0.1:{ssh.port}",
                "path": str(ssh.files),
                "access_key_id": ssh.user,
                "secret_access_key": "secret://file/ssh",
                "host_key": ssh.host_key,
                "key_pattern": "app/%Y/%m/%d/%H/",
            }
            self.assertEqual(call("/logs/sources", {"name": "ssh", "place": place})[0], 200)
            status, listed = call("/logs/sources/ssh/objects", {})
            self.assertEqual((status, [item["key"] for item in listed["items"]]), (200, sorted(files)), listed)
            _, listed = call("/logs/sources/ssh/objects", {"from": "2025-11-21T10:00:00Z", "until": "2025-11-21T11:00:00Z"})
            self.assertEqual([item["key"] for item in listed["items"]], [name for name in sorted(files) if "/10/" in name])
            # A connection that breaks in the middle is taken up where it was.
            broken = {**place, "endpoint": f"sftp://127.0.0.1:{wire.port}"}
            call("/logs/sources", {"name": "wire", "place": broken})
            _, done = call("/logs/sources/wire/download", {"to": "down"})
            self.assertEqual((done["stored"], done["failed"], wire.broke), (5, 0, True), done)
            for name, body in files.items():
                self.assertEqual((room.data / "files/down" / name).read_bytes(), body, name)
            status, found = call("/logs/analyze", {"source": "ssh", "prefix": "app/2025/11/21/10/big"})
            self.assertEqual((status, found["records"]), (200, 200_000), found)
            # A server that shows another key gets no word from us.
            let_in = (ssh.folder / "log").read_text().count("Accepted")
            self.assertGreater(let_in, 0)
            other = " ".join((ssh.folder / "other.pub").read_text().split()[:2])
            call("/logs/sources", {"name": "other", "place": {**place, "host_key": other}})
            _, tested = call("/logs/sources/other/test", {})
            self.assertFalse(tested["ok"])
            self.assertIn("shows the key SHA256:", tested["message"])
            self.assertEqual((ssh.folder / "log").read_text().count("Accepted"), let_in)

    def test_a_batch_of_1000_objects_survives_two_restarts(self):
        objects = {f"app/{n:04}.log": f"2025-11-21 10:00:00 INFO object o{n}x\n".encode() * 50 for n in range(1000)}
        with Cos(objects) as cos:
            room, call = self.room, self.call
            place = cos_place(cos)
            room.request("POST", "/logs/sources", {"name": "bucket", "place": place}, key=self.key)
            items = [{"source": "bucket", "prefix": name} for name in sorted(objects)]
            body = {"operation": "analyze_logs", "items": items, "concurrency": 8}
            status, batch = room.request("POST", "/logs/batches", body, key=self.key)
            self.assertEqual((status, batch["total"]), (200, 1000), batch)
            path = f"/logs/batches/{batch['id']}?limit=0"
            for _ in range(2):
                time.sleep(1.5)
                room.stop(signal.SIGKILL)
                room.start()
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline:
                _, now = room.request("GET", path, key=self.key)
                if now["state"] != "running":
                    break
                time.sleep(0.5)
            self.assertEqual((now["state"], now["succeeded"], now["failed"]), ("done", 1000, 0), now)
            _, all = room.request("GET", f"/logs/batches/{batch['id']}?limit=1000", key=self.key)
            self.assertEqual([item["item"] for item in all["items"]], list(range(1000)))
            self.assertEqual({item["answer"]["records"] for item in all["items"]}, {50})

    def test_what_a_store_does_wrong_is_said(self):
        objects = {"a.log": b"INFO one\n", "../evil.log": b"x\n", "cold.log": b"y\n"}
        with Cos(objects) as cos:
            room, call = self.room, self.call
            call("/logs/sources", {"name": "bucket", "place": cos_place(cos)})
            cos.archived.add("cold.log")
            _, done = call("/logs/sources/bucket/download", {"to": "down"})
            self.assertEqual((done["stored"], done["failed"]), (1, 1), done)
            self.assertIn("archived", done["failures"][0]["message"])
            self.assertIn("1 listed objects were left out", done["warnings"][0])
            self.assertFalse((room.data / "evil.log").exists() or (room.data / "files/evil.log").exists())
            cos.skewed = True
            _, tested = call("/logs/sources/bucket/test", {})
            self.assertFalse(tested["ok"])
            self.assertIn("clock", tested["message"])
            cos.skewed = False
            wrong = cos_place(cos, secret_access_key="secret://env/MISSING")
            call("/logs/sources", {"name": "wrong", "place": wrong})
            self.assertFalse(call("/logs/sources/wrong/test", {})[1]["ok"])
            other = cos_place(cos, secret_access_key="secret://env/S3_KEY")
            call("/logs/sources", {"name": "other", "place": other})
            status, refused = call("/logs/search", {"source": "other"})
            self.assertEqual(status, 403, refused)
            self.assertIn("check access_key_id, secret_access_key", json.dumps(refused))
            cos.busy = 100
            _, tested = call("/logs/sources/bucket/test", {})
            self.assertIn("slow down", tested["message"])
            status, answer = call("/logs/sources", {"name": "plain", "place": {**cos_place(cos), "secret_access_key": KEY}})
            self.assertEqual(status, 400)
            self.assertNotIn(KEY, json.dumps(answer) + (room.folder / "server.log").read_text())

    def test_one_question_about_a_bucket_is_answered_in_6000_bytes(self):
        objects = {f"app/2025/11/21/{h:02}/web.log.gz": gzip.compress(hour(h, fault=h == 10)) for h in range(6, 14)}
        with Cos(objects) as cos:
            room, call = self.room, self.call
            place = cos_place(cos, key_pattern="app/%Y/%m/%d/%H/")
            room.request("POST", "/logs/sources", {"name": "bucket", "place": place}, key=self.key)
            from fastmcp import Client
            from fastmcp.client.transports import StreamableHttpTransport

            async def ask():
                transport = StreamableHttpTransport(room.url + "/mcp", headers={"Authorization": f"Bearer {self.key}"})
                async with Client(transport) as client:
                    question = {
                        "source": "bucket",
                        "from": "2025-11-21T10:00:00Z",
                        "until": "2025-11-21T10:10:00Z",
                        "max_bytes": 6000,
                    }
                    return await client.call_tool("explain_logs", question)

            answer = asyncio.run(ask())
            text = "".join(part.text for part in answer.content)
            self.assertLessEqual(len(text.encode()), 6000)
            findings = json.loads(text)["findings"]
            self.assertIn("lost its connection to the primary", json.dumps(findings[:3]), findings)
            # Nothing was kept of it.
            self.assertEqual(room.operation("count-logs")["count"], 0)


if __name__ == "__main__":
    unittest.main()
