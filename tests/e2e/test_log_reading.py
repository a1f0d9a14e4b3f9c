"""What lies in log sources and in files, searched and exported where it lies; and what is wrong with it."""

import gzip
import json
import os
import pathlib
import re
import unittest

from senders import Azurite, Ssh
from stores import Cos, aws
from test_log_sources import AtSources, cos_place, hour


class Reading(AtSources):
    def test_a_bucket_is_searched_and_exported_and_nothing_is_kept(self):
        objects = {f"app/2025/11/21/{h:02}/web.log.gz": gzip.compress(hour(h, fault=h == 10)) for h in range(9, 12)}
        with Cos(objects) as cos:
            room, call = self.room, self.call
            call("/logs/sources", {"name": "bucket", "place": cos_place(cos, key_pattern="app/%Y/%m/%d/%H/")})
            ten = {"source": "bucket", "from": "2025-11-21T10:00:00Z", "until": "2025-11-21T10:05:00Z"}
            status, found = call("/logs/search", {**ten, "query": "level:error replica", "limit": 2, "context": 1})
            self.assertEqual((status, found["count"], found["more"]), (200, 60, True), found)
            newest = found["lines"][0]
            self.assertIn("10:04:57 ERROR db replica", newest["text"])
            self.assertEqual(newest["labels"], {"source": "bucket", "object": "app/2025/11/21/10/web.log.gz"})
            self.assertIn("request req-10-297", newest["before"][0])
            self.assertEqual(found["templates"][0]["count"], 60)
            self.assertEqual({query["prefix"] for path, query, _ in cos.requests if path == "/"}, {"app/2025/11/21/10/"})
            wanted = {**ten, "query": "level:error", "path": "found/errors.ndjson.gz"}
            status, done = call("/logs/export", {**wanted, "to_source": "bucket", "compress": "gzip"})
            self.assertEqual((status, done["lines"], done["objects"]), (200, 60, ["found/errors.ndjson.gz"]), done)
            lines = [json.loads(line) for line in gzip.decompress(cos.objects["found/errors.ndjson.gz"]).splitlines()]
            self.assertEqual((len(lines), lines[0]["time"], lines[0]["level"]), (60, "2025-11-21T10:02:00Z", "error"))
            # What is there is not replaced, and what came wrong is not called done.
            self.assertEqual(call("/logs/export", {**wanted, "to_source": "bucket"})[0], 409)
            cos.wrong_checksum.add("other.ndjson")
            status, done = call("/logs/export", {**wanted, "to_source": "bucket", "path": "other.ndjson"})
            self.assertEqual(status, 503, done)
            self.assertIn("CRC-64", json.dumps(done))
            status, done = call("/logs/export", {**wanted, "format": "parquet", "path": "errors.parquet"})
            self.assertEqual((status, done["lines"]), (200, 60), done)
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(room.data / "files/errors.parquet").to_pydict()
            self.assertEqual(table["time"][0].isoformat(), "2025-11-21T10:02:00+00:00")
            self.assertEqual(set(table["level"]), {"error"})
            self.assertTrue(all("lost its connection" in text for text in table["text"]))
            self.assertEqual(json.loads(table["labels"][0])["object"], "app/2025/11/21/10/web.log.gz")
            self.assertEqual(room.operation("count-logs")["count"], 0)
            # Templates are known by their texts, and count as lines that are kept do.
            found = call("/logs/search", {**ten, "query": ""})[1]
            for template in found["templates"]:
                status, same = call("/logs/search", {**ten, "query": f'template:"{template["template"]}"'})
                self.assertEqual((status, same["count"]), (200, template["count"]), template)
            _, counted = call("/logs/count", {**ten, "by": "template", "buckets": 5})
            groups = {(group["value"], group["count"]) for group in counted["groups"]}
            self.assertEqual(groups, {(template["template"], template["count"]) for template in found["templates"]})
            self.assertEqual([sum(group["buckets"][minute] for group in counted["groups"]) for minute in range(5)], [60, 60, 80, 80, 80])
            _, top = call("/logs/count", {**ten, "query": "level:error", "by": r"/replica ([0-9.]+)/", "limit": 2})
            self.assertEqual((top["count"], len(top["groups"]), top["more"]), (60, 2, 1), top)

    def test_an_export_goes_to_s3_azure_and_ssh(self):
        import boto3

        room, call = self.room, self.call
        (room.data / "files/web.log").write_bytes(hour(10))
        moto = aws()
        with Azurite() as azurite, Ssh() as ssh:
            try:
                url = moto.url
                s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
                s3.create_bucket(Bucket="logs")
                azurite.put("logs", query="restype=container", blob=False)
                (room.data / "secrets.d").mkdir(mode=0o700, exist_ok=True)
                (room.data / "secrets.d/ssh").touch(mode=0o600)
                (room.data / "secrets.d/ssh").write_text(ssh.key)
                common = {"bucket": "logs", "secret_access_key": "secret://env/S3_KEY"}
                places = {
                    "s3": {**common, "kind": "s3", "region": "us-east-1", "endpoint": url, "access_key_id": "a"},
                    "azure": {
                        "kind": "azure",
                        "bucket": "logs",
                        "endpoint": azurite.url,
                        "access_key_id": Azurite.account,
                        "secret_access_key": "secret://env/AZURE_KEY",
                    },
                    "ssh": {
                        "kind": "sftp",
                        "endpoint": f"sftp://127.0.0.1:{ssh.port}",
                        "path": str(ssh.files),
                        "access_key_id": ssh.user,
                        "secret_access_key": "secret://file/ssh",
                        "host_key": ssh.host_key,
                    },
                }
                for name, place in places.items():
                    self.assertEqual(call("/logs/sources", {"name": name, "place": place})[0], 200)
                    wanted = {"file": "web.log", "query": "took", "format": "plain", "to_source": name, "path": "out/x y.log"}
                    status, done = call("/logs/export", wanted)
                    self.assertEqual((status, done.get("lines")), (200, 3600), (name, done))
                    self.assertEqual(call("/logs/export", wanted)[0], 409, name)
                    status, again = call("/logs/analyze", {"source": name, "prefix": "out/"})
                    self.assertEqual((status, again["records"]), (200, 3600), (name, again))
                self.assertEqual((ssh.files / "out/x y.log").read_bytes(), hour(10))
                self.assertEqual(s3.get_object(Bucket="logs", Key="out/x y.log")["Body"].read(), hour(10))
            finally:
                moto.stop()

    def test_objects_that_change_or_vanish_while_they_are_read_are_said_and_the_rest_is_kept(self):
        line = b"2025-11-21 10:00:00 ERROR one of many lines\n"
        long = "app/" + "d" * 255 + "/" + "e" * 255 + "/" + "f" * 255 + "/" + "g" * (1024 - 4 - 3 * 256)
        self.assertEqual(len(long), 1024)
        objects = {"app/changes.log": line * 50_000, "app/gone.log": line * 50_000, "app/good.log": line * 10, long: line, "app/nul\0.log": line}
        with Cos(dict(objects)) as cos:
            room, call = self.room, self.call

            def misbehave():
                cos.objects = dict(objects)
                cos.cut_after = {"app/changes.log": 500_000, "app/gone.log": 500_000}
                cos.after_cut = {"app/changes.log": b"other\n" * 300_000, "app/gone.log": None}

            call("/logs/sources", {"name": "bucket", "place": cos_place(cos)})
            misbehave()
            status, done = call("/logs/sources/bucket/download", {"to": "down"})
            self.assertEqual((status, done["stored"], done["failed"]), (200, 2, 2), done)
            messages = {failure["key"]: failure["message"] for failure in done["failures"]}
            self.assertIn("was replaced while it was read", messages["app/changes.log"])
            self.assertIn("the store has no `app/gone.log`", messages["app/gone.log"])
            self.assertEqual((room.data / "files/down" / long).read_bytes(), line)
            self.assertEqual(list((room.data / "files/down").rglob("*gone*")), [])
            self.assertIn("1 listed objects were left out", done["warnings"][0])
            # Who reads them gets what had come, and is told what is missing.
            misbehave()
            status, found = call("/logs/search", {"source": "bucket", "query": "level:error", "limit": 0})
            self.assertEqual(status, 200, found)
            told = " ".join(found["warnings"])
            self.assertIn("app/changes.log", told)
            self.assertIn("app/gone.log", told)
            whole = 500_000 // len(line)
            self.assertGreaterEqual(found["count"], 11)
            self.assertLessEqual(found["count"], 2 * whole + 11)
            cos.circles, cos.page = True, 1
            status, listed = call("/logs/sources/bucket/objects", {})
            self.assertEqual(status, 503, listed)
            self.assertIn("goes round in circles", json.dumps(listed))

    def test_a_source_of_100001_objects_is_bounded(self):
        with Cos({f"app/{n:06}.log": b"" for n in range(100_001)}) as cos:
            room, call = self.room, self.call
            cos.page = 5_000
            call("/logs/sources", {"name": "many", "place": cos_place(cos)})
            status, listed = call("/logs/sources/many/objects", {"limit": 50})
            self.assertEqual((status, len(listed["items"]), listed["more"]), (200, 50, True))
            status, estimate = call("/logs/sources/many/estimate", {})
            self.assertEqual((status, estimate["objects"], estimate["more"]), (200, 100_000, True), estimate)
            status, done = call("/logs/sources/many/download", {"to": "down"})
            self.assertEqual(status, 400, done)
            self.assertIn("narrow the prefix", json.dumps(done))
            status, found = call("/logs/search", {"source": "many"})
            self.assertEqual(status, 400, found)

    def test_a_folder_of_100001_files_is_bounded(self):
        folder = self.room.data / "files" / "many"
        for half in "ab":
            (folder / half).mkdir(parents=True)
        for n in range(100_001):
            os.close(os.open(folder / "ab"[n % 2] / f"{n:06}.log", os.O_CREAT | os.O_WRONLY, 0o644))
        (folder / "b" / "000007.log").write_bytes(b"2025-11-21 10:00:00 ERROR the one that is meant\n")
        call = self.call
        self.assertEqual(call("/logs/sources", {"name": "many", "place": {"kind": "folder", "path": "many"}})[0], 200)
        status, listed = call("/logs/sources/many/objects", {"limit": 50})
        self.assertEqual((status, len(listed.get("items", [])), listed.get("more")), (200, 50, True), listed)
        status, estimate = call("/logs/sources/many/estimate", {})
        self.assertEqual((status, estimate["objects"], estimate["more"]), (200, 100_000, True), estimate)
        status, found = call("/logs/search", {"source": "many"})
        self.assertEqual(status, 400, found)
        self.assertIn("narrow the prefix", json.dumps(found))
        status, found = call("/logs/search", {"source": "many", "prefix": "b/00000", "query": "meant"})
        self.assertEqual((status, found["count"]), (200, 1), found)
        # A folder that is named as it is says how much of it was read, or that it is too much.
        status, answer = call("/logs/analyze", {"path": "many"})
        self.assertTrue(status == 400 or answer["warnings"], answer)

    def test_a_line_of_100_mb_takes_no_memory_and_hides_nothing(self):
        room = self.room
        with open(room.data / "files/long.log", "wb") as file:
            file.write(b"2025-11-21 09:59:59 INFO before\n")
            for _ in range(100):
                file.write(b"x" * 1_000_000)
            file.write(b"\n2025-11-21 10:00:00 ERROR after it\n")
        status, found = self.call("/logs/search", {"path": "long.log", "query": "level:error"})
        self.assertEqual((status, found["count"]), (200, 1), found)
        self.assertIn("ERROR after it", found["lines"][0]["text"])
        status, everything = self.call("/logs/search", {"path": "long.log", "max_bytes": 1000, "limit": 10_000})
        self.assertEqual(everything["count"], 3)
        self.assertLess(len(json.dumps(everything)), 1_500)
        peak = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{room.process.pid}/status").read_text())
        self.assertLess(int(peak.group(1)), 500_000)


if __name__ == "__main__":
    unittest.main()
