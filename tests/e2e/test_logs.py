"""Logs that are kept: receivers that others' senders speak with, and the store under `kill -9`."""

import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import unittest
import urllib.request

from room import Room
from senders import Rsyslog, certificates, free_port


class Receivers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.port, cls.tls_port = free_port(), free_port()
        listen = f"127.0.0.1:{cls.port}"
        room = Room(environment={"OPSROOM__LOGS__SYSLOG__TCP": listen, "OPSROOM__LOGS__SYSLOG__UDP": listen})
        certificates(room.folder)
        for name, value in {
            "TLS": f"127.0.0.1:{cls.tls_port}",
            "TLS_CERTIFICATE": room.folder / "server.pem",
            "TLS_KEY": room.folder / "server.key",
            "TLS_CLIENT_CA": room.folder / "ca.pem",
        }.items():
            room.environment[f"OPSROOM__LOGS__SYSLOG__{name}"] = str(value)
        cls.room = cls.enterClassContext(room)

    def test_the_opentelemetry_exporter_delivers(self):
        from opentelemetry._logs import SeverityNumber
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
        from opentelemetry.sdk.resources import Resource

        room = self.room
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
        room = self.room
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
        room = self.room
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

    def test_a_client_that_sends_half_a_batch_has_nothing_kept_and_disturbs_nobody(self):
        room = self.room
        key = room.key()
        lines = b"".join(b"2025-11-21 10:00:00 INFO half %d\n" % n for n in range(1_000))
        head = (
            f"POST /logs/raw?service=half HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: text/plain\r\n"
        ).encode()
        frames = b"%x\r\n%s\r\n" % (len(lines) // 2, lines[: len(lines) // 2])
        for request in (
            head + b"Content-Length: %d\r\n\r\n" % len(lines) + lines[: len(lines) // 2],
            head + b"Transfer-Encoding: chunked\r\n\r\n" + frames,
            head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % (len(gzip.compress(lines)) // 2) + gzip.compress(lines)[: len(gzip.compress(lines)) // 2],
        ):
            with socket.create_connection(("127.0.0.1", int(room.url.rsplit(":", 1)[1]))) as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(30)
                with contextlib.suppress(ConnectionError):
                    answer = connection.recv(65536)
                    self.assertNotIn(b" 200 ", answer.split(b"\r\n")[0])
        kept = room.request("POST", "/logs/raw?service=half", lines, key=key, headers={"Content-Type": "text/plain"})
        self.assertEqual((kept[0], kept[1]["accepted"]), (200, 1_000))
        found = room.operation("search-logs", "--query", "service:half", "--limit", "1")
        self.assertEqual(found["count"], 1_000)

    def test_logger_delivers_over_tcp_and_udp(self):
        room, port = self.room, self.port
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

    def test_rsyslog_delivers_what_logger_writes(self):
        room = self.room
        with Rsyslog(self.port) as rsyslog:
            for n in range(20):
                text = f"payment {n} of shop was declined"
                subprocess.run(["logger", "--socket", str(rsyslog.socket), "--tag", "shop", "-p", "user.err", text], check=True)
            for _ in range(100):
                found = room.operation("search-logs", "--query", 'service:shop level:error "was declined"')
                if found["count"] == 20:
                    break
                time.sleep(0.1)
            self.assertEqual((found["count"], len(found["templates"])), (20, 1), found)

    def test_rsyslog_delivers_over_tls_and_who_shows_no_certificate_does_not(self):
        room = self.room
        certified = ssl.create_default_context(cafile=room.folder / "ca.pem")
        stranger = ssl.create_default_context(cafile=room.folder / "ca.pem")
        certified.load_cert_chain(room.folder / "client.pem", room.folder / "client.key")
        message = b"<11>1 2025-11-21T10:00:00Z h vault - - - the seal of %s was broken"
        for context, text in ((certified, message % b"ours"), (stranger, message % b"theirs")):
            # TLS 1.3 tells the one who is refused only when it reads.
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                plain = socket.create_connection(("127.0.0.1", self.tls_port), timeout=30)
                with context.wrap_socket(plain, server_hostname="localhost") as wire:
                    wire.sendall(b"%d " % len(text) + text)
                    wire.unwrap()
        with socket.create_connection(("127.0.0.1", self.tls_port), timeout=30) as plain:
            plain.sendall(message % b"nobody" + b"\n")
        with Rsyslog(self.tls_port, tls=room.folder) as rsyslog:
            for n in range(10):
                text = f"the seal of door {n} was broken"
                subprocess.run(["logger", "--socket", str(rsyslog.socket), "--tag", "vault", "-p", "user.err", text], check=True)
            for _ in range(100):
                found = room.operation("search-logs", "--query", 'service:vault level:error "was broken"')
                if found["count"] >= 11:
                    break
                time.sleep(0.1)
        texts = [line["text"] for line in found["lines"]]
        self.assertEqual(found["count"], 11, found)
        self.assertIn("the seal of ours was broken", texts)
        self.assertFalse([text for text in texts if "theirs" in text or "nobody" in text], texts)

    def test_a_schedule_looks_at_a_stream_and_tells_what_it_finds(self):
        room = self.room
        key = room.key()
        seen = []
        events = urllib.request.Request(room.url + "/events", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(events, timeout=60) as stream:
            text = "".join(f"ERROR replica {n} of ledger lost its primary\n" for n in range(30))
            room.request("POST", "/logs/ingest", {"text": text, "service": "ledger"}, key=key)
            look = {"query": "service:ledger", "from": "-5m", "tell": True}
            body = {"name": "ledger", "operation": "explain_logs", "input": look, "cron": "@daily"}
            status, made = room.request("POST", "/schedules", body, key=key)
            self.assertEqual(status, 200, made)
            self.assertEqual(room.request("POST", f"/schedules/{made['id']}/run", {}, key=key)[0], 200)
            for line in stream:
                if line.startswith(b"data:") and b"logs.finding" in line:
                    seen.append(json.loads(line[5:]))
                    break
        self.assertIn("lost its primary", seen[0]["subject"])
        self.assertEqual((seen[0]["data"]["count"], seen[0]["data"]["place"]["query"]), (30, "service:ledger"))

    def test_new_lines_are_followed(self):
        room = self.room
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


@unittest.skipUnless(os.geteuid() == 0, "a small disk can be made by root alone")
class Full(unittest.TestCase):
    def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost(self):
        room = Room()
        room.data.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(room.data)], check=True)
        try:
            with room:
                key = room.key()
                filler = room.data / "filler"
                filler.write_bytes(b"x" * (16 << 20))
                accepted, refused = 0, None
                for n in range(200):
                    text = "".join(f"INFO line {n} {m} {random.getrandbits(600):x}\n" for m in range(4_000))
                    status, answer = room.request("POST", "/logs/raw?service=full", text.encode(), key=key)
                    if status != 200:
                        refused = (status, answer)
                        break
                    accepted += answer["accepted"]
                self.assertEqual(refused[0], 503, refused)
                self.assertGreater(accepted, 4_000)
                status, counted = room.request("POST", "/logs/count", {"query": "service:full"}, key=key)
                self.assertEqual((status, counted["count"]), (200, accepted), counted)
                # With room again, all goes on where it was.
                filler.unlink()
                status, answer = room.request("POST", "/logs/raw?service=full", b"INFO room again\n", key=key)
                self.assertEqual((status, answer), (200, {"accepted": 1, "notes": []}))
                room.stop(signal.SIGKILL)
                room.start()
                status, counted = room.request("POST", "/logs/count", {"query": "service:full"}, key=key)
                self.assertEqual((status, counted["count"]), (200, accepted + 1), counted)
                status, found = room.request("POST", "/logs/search", {"query": '"room again"'}, key=key)
                self.assertEqual((status, found["count"]), (200, 1), found)
        finally:
            subprocess.run(["umount", "-l", str(room.data)], check=True)


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


if __name__ == "__main__":
    unittest.main()
