"""Logs from anywhere: receivers that others' senders speak with, the store under `kill -9`, sources."""

import asyncio
import gzip
import json
import random
import signal
import threading
import time
import unittest

from room import Room
from stores import ID, KEY, Cos

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


class Receivers(unittest.TestCase):
    def test_the_opentelemetry_exporter_delivers(self):
        from opentelemetry._logs import SeverityNumber
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
        from opentelemetry.sdk.resources import Resource

        with Room() as room:
            key = room.key("operator", scopes="logs:ingest")
            exporter = OTLPLogExporter(endpoint=room.url + "/v1/logs", headers={"Authorization": f"Bearer {key}"})
            provider = LoggerProvider(resource=Resource({"service.name": "checkout", "host.name": "h7"}))
            provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
            logger = provider.get_logger("test")
            for n in range(20):
                logger.emit(
                    timestamp=time.time_ns(),
                    severity_number=SeverityNumber.ERROR,
                    body=f"payment {n} was declined",
                    attributes={"order": n},
                )
            provider.shutdown()
            found = room.operation("search-logs", "--query", "service:checkout level:error declined order:7")
            self.assertEqual(found["count"], 1, found)
            self.assertEqual(found["lines"][0]["text"], "payment 7 was declined")
            self.assertEqual(found["lines"][0]["labels"]["host"], "h7")
            # The key may send and nothing else.
            self.assertEqual(room.request("POST", "/logs/search", {}, key=key)[0], 403)

    def test_pushes_as_to_loki_deliver(self):
        with Room() as room:
            key = room.key()
            now = time.time_ns()
            push = {"streams": [{"stream": {"app": "cart"}, "values": [[str(now + n), f"WARN cart {n} is slow"] for n in range(50)]}]}
            self.assertEqual(room.request("POST", "/loki/api/v1/push", push, key=key)[0], 204)
            packed = gzip.compress(json.dumps(push).encode())
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            self.assertEqual(room.request("POST", "/loki/api/v1/push", packed, key=key, headers=headers)[0], 204)
            counted = room.operation("count-logs", "--query", "service:cart", "--by", "level")
            self.assertEqual((counted["count"], counted["groups"][0]["value"]), (100, "warn"))
            # Half a batch is no batch, and nothing of it is kept.
            self.assertEqual(room.request("POST", "/loki/api/v1/push", packed[:40], key=key, headers=headers)[0], 400)
            self.assertEqual(room.operation("count-logs", "--query", "service:cart")["count"], 100)

    def test_plain_and_json_lines_are_kept_whatever_they_hold(self):
        with Room() as room:
            key = room.key()
            text = b"2025-11-21 10:00:00 ERROR broken \xff\xfe bytes\n\tat a.B\n2035-11-21 10:00:00 INFO from the future\n"
            kept = room.request("POST", "/logs/raw?service=old", text, key=key, headers={"Content-Type": "text/plain"})
            self.assertEqual((kept[0], kept[1]["accepted"]), (200, 3), kept)
            self.assertIn("future", kept[1]["notes"][0])
            found = room.operation("search-logs", "--query", "service:old level:error", "--templates", "0")
            self.assertEqual([line["text"] for line in found["lines"]], ["\tat a.B", "2025-11-21 10:00:00 ERROR broken \ufffd\ufffd bytes"])
            long = b"x" * (3 << 20) + b"\nnext\n"
            kept = room.request("POST", "/logs/raw?service=long", long, key=key, headers={"Content-Type": "text/plain"})
            self.assertEqual(kept[1]["accepted"], 2, kept)
            found = room.operation("search-logs", "--query", "service:long", "--max-bytes", "1000", "--templates", "0")
            self.assertLess(len(json.dumps(found)), 1400)
            self.assertEqual(room.request("POST", "/logs/raw", b"x")[0], 401)
            self.assertEqual(room.request("POST", "/logs/raw", b"x", key=room.key("viewer"))[0], 403)

    def test_logger_delivers_over_tcp_and_udp(self):
        import shutil
        import socket
        import subprocess

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {"OPSROOM__LOGS__SYSLOG__TCP": f"127.0.0.1:{port}", "OPSROOM__LOGS__SYSLOG__UDP": f"127.0.0.1:{port}"}
        with Room(environment=environment) as room:
            sender = shutil.which("logger")
            self.assertTrue(sender, "logger is in bsdutils, which every Debian has")
            for way in (["--tcp", "--octet-count"], ["--tcp"], ["--udp"]):
                text = f"disk full {way[-1]}"
                subprocess.run(
                    [sender, "--server", "127.0.0.1", "--port", str(port), *way, "--rfc5424", "--tag", "cron", "-p", "user.err", text],
                    check=True,
                )
            wanted = "service:cron level:error \"disk full\""
            for _ in range(50):
                found = room.operation("search-logs", "--query", wanted)
                if found["count"] == 3:
                    break
                time.sleep(0.1)
            self.assertEqual(found["count"], 3, found)

    def test_new_lines_are_followed(self):
        with Room() as room:
            key = room.key()
            seen = []
            follower = threading.Thread(
                target=lambda: seen.append(room.command("tail-logs", "level:error", "--json", "--limit", "2").stdout)
            )
            follower.start()
            for n in range(100):
                if not follower.is_alive():
                    break
                room.request("POST", "/logs/ingest", {"text": f"ERROR number {n}\nINFO quiet\n"}, key=key)
                time.sleep(0.1)
            follower.join(30)
            lines = [json.loads(line) for line in seen[0].splitlines()]
            self.assertEqual([line["level"] for line in lines], ["error", "error"])


class Crash(unittest.TestCase):
    def test_kill_9_under_load_50_times_loses_no_acknowledged_line(self):
        moments = random.Random(7)
        with Room(environment={"OPSROOM__LOGS__STORE__SEGMENT_BYTES": str(1 << 20)}) as room:
            key = room.key()
            acknowledged, number, lock = set(), [0], threading.Lock()

            def send(stop):
                while not stop.is_set():
                    with lock:
                        number[0] += 1
                        batch = number[0]
                    text = "".join(f"INFO batch b{batch}x line l{n}x of a hundred and some words to fill it\n" for n in range(100))
                    try:
                        status, _ = room.request("POST", "/logs/ingest", {"text": text}, key=key)
                    except OSError:
                        continue
                    if status == 200:
                        acknowledged.add(batch)

            for _ in range(50):
                stop = threading.Event()
                senders = [threading.Thread(target=send, args=(stop,)) for _ in range(3)]
                [sender.start() for sender in senders]
                time.sleep(moments.uniform(0.05, 0.6))
                room.stop(signal.SIGKILL)
                stop.set()
                [sender.join() for sender in senders]
                room.start()
            self.assertGreater(len(acknowledged), 100)
            body = {"by": r"/batch b(\d+)x/", "limit": 1000}
            lines = {}
            for tens in range(number[0] // 10 + 1):
                query = {**body, "query": f"/batch b{tens if tens else ''}[0-9]x/"}
                status, counted = room.request("POST", "/logs/count", query, key=key)
                self.assertEqual((status, counted["warnings"]), (200, []))
                lines.update({int(group["value"]): group["count"] for group in counted["groups"]})
            lost = {batch for batch in acknowledged if lines.get(batch) != 100}
            self.assertEqual(lost, set(), "acknowledged and not there, or not there once")
            # What was not acknowledged is there as a whole or not at all.
            self.assertLessEqual(set(lines.values()), {100})
            print(f"\n{len(acknowledged)} batches acknowledged, {len(lines)} kept, 50 kills")


class Sources(unittest.TestCase):
    def test_cos_lists_downloads_resumes_and_checks(self):
        objects = {f"app/2025/11/21/{h:02}/web.log.gz": gzip.compress(hour(h)) for h in range(8, 12)}
        objects["app/2025/11/21/10/日志 +%.log"] = b"2025-11-21 10:00:00 INFO odd name\n" * 200_000
        with Cos(objects) as cos, Room(environment=ALLOW) as room:
            key = room.key()
            call = lambda path, body: room.request("POST", path, body, key=key)
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
        from moto.server import ThreadedMotoServer

        moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        moto.start()
        try:
            host, port = moto.get_host_and_port()
            url = f"http://{host}:{port}"
            s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
            s3.create_bucket(Bucket="logs")
            for n in range(25):
                s3.put_object(Bucket="logs", Key=f"app/{n:03} +x.log", Body=hour(n % 24))
            with Room(environment={**ALLOW, "OPSROOM_SECRET_S3_KEY": "b"}) as room:
                key = room.key()
                place = {
                    "kind": "s3",
                    "bucket": "logs",
                    "region": "us-east-1",
                    "endpoint": url,
                    "access_key_id": "a",
                    "secret_access_key": "secret://env/S3_KEY",
                }
                call = lambda path, body: room.request("POST", path, body, key=key)
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

    def test_a_batch_of_1000_objects_survives_two_restarts(self):
        objects = {f"app/{n:04}.log": f"2025-11-21 10:00:00 INFO object o{n}x\n".encode() * 50 for n in range(1000)}
        with Cos(objects) as cos, Room(environment=ALLOW) as room:
            key = room.key()
            place = cos_place(cos)
            room.request("POST", "/logs/sources", {"name": "bucket", "place": place}, key=key)
            items = [{"source": "bucket", "prefix": name} for name in sorted(objects)]
            body = {"operation": "analyze_logs", "items": items, "concurrency": 8}
            status, batch = room.request("POST", "/logs/batches", body, key=key)
            self.assertEqual((status, batch["total"]), (200, 1000), batch)
            path = f"/logs/batches/{batch['id']}?limit=0"
            for _ in range(2):
                time.sleep(1.5)
                room.stop(signal.SIGKILL)
                room.start()
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline:
                _, now = room.request("GET", path, key=key)
                if now["state"] != "running":
                    break
                time.sleep(0.5)
            self.assertEqual((now["state"], now["succeeded"], now["failed"]), ("done", 1000, 0), now)
            _, all = room.request("GET", f"/logs/batches/{batch['id']}?limit=1000", key=key)
            self.assertEqual([item["item"] for item in all["items"]], list(range(1000)))
            self.assertEqual({item["answer"]["records"] for item in all["items"]}, {50})

    def test_what_a_store_does_wrong_is_said(self):
        objects = {"a.log": b"INFO one\n", "../evil.log": b"x\n", "cold.log": b"y\n"}
        with Cos(objects) as cos, Room(environment=ALLOW) as room:
            key = room.key()
            call = lambda path, body: room.request("POST", path, body, key=key)
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
            cos.busy = 100
            _, tested = call("/logs/sources/bucket/test", {})
            self.assertIn("slow down", tested["message"])
            status, answer = call("/logs/sources", {"name": "plain", "place": {**cos_place(cos), "secret_access_key": KEY}})
            self.assertEqual(status, 400)
            self.assertNotIn(KEY, json.dumps(answer) + (room.folder / "server.log").read_text())

    def test_one_question_about_a_bucket_is_answered_in_6000_bytes(self):
        objects = {f"app/2025/11/21/{h:02}/web.log.gz": gzip.compress(hour(h, fault=h == 10)) for h in range(6, 14)}
        with Cos(objects) as cos, Room(environment=ALLOW) as room:
            key = room.key()
            place = cos_place(cos, key_pattern="app/%Y/%m/%d/%H/")
            room.request("POST", "/logs/sources", {"name": "bucket", "place": place}, key=key)
            from fastmcp import Client
            from fastmcp.client.transports import StreamableHttpTransport

            async def ask():
                transport = StreamableHttpTransport(room.url + "/mcp", headers={"Authorization": f"Bearer {key}"})
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
