"""What is wrong is refused in words, with the right status or exit code, on every face, and nothing hangs."""

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from room import BINARY, LOG, Room

MIB = 1 << 20


class Refused(unittest.TestCase):
    """One server, three faces."""

    @classmethod
    def setUpClass(cls):
        cls.room = Room().__enter__()
        cls.key = cls.room.key()
        files = cls.room.data / "files"
        (files / "good.log").write_text(LOG)
        (files / "empty").mkdir()
        (files / "binary.log").write_bytes(os.urandom(100_000))
        (files / "cut.log.gz").write_bytes(gzip.compress(LOG.encode())[:40])
        (files / "link.log").symlink_to(files / "good.log")
        (files / "out").symlink_to("/etc")
        os.mkfifo(files / "pipe.log")

    @classmethod
    def tearDownClass(cls):
        cls.room.__exit__()

    def over_mcp(self, tool, arguments):
        async def call():
            transport = StreamableHttpTransport(
                self.room.url + "/mcp", headers={"Authorization": f"Bearer {self.key}"}
            )
            async with Client(transport) as client:
                return await client.call_tool(tool, arguments, raise_on_error=False)

        answer = asyncio.run(call())
        return answer.is_error, answer.content[0].text

    def test_a_bad_log_is_refused_alike_on_every_face(self):
        for path, status, code, words in [
            ("none.log", 404, 3, "there is no `none.log`"),
            ("empty", 404, 3, "folder without logs"),
            ("binary.log", 400, 2, "is binary"),
            ("cut.log.gz", 400, 2, "truncated gzip"),
            ("link.log", 403, 4, "link"),
            ("out/passwd", 403, 4, "link"),
            ("pipe.log", 400, 2, "pipe"),
            ("../operator.key", 400, 2, "`..`"),
            ("good.log/../../operator.key", 400, 2, "`..`"),
            ("/etc/passwd", 403, 4, "outside the folders"),
            ("", 400, 2, "empty"),
            ("a\0b", 400, None, "zero character"),
        ]:
            with self.subTest(path=path):
                given = {"path": path}
                was, answer = self.room.request("POST", "/logs/anomalies", given, key=self.key)
                self.assertEqual(was, status, answer)
                message = answer["error"]["message"]
                self.assertIn(words, message)
                failed, text = self.over_mcp("detect_anomalies", given)
                self.assertTrue(failed)
                self.assertEqual(text, f"{answer['error']['kind']}: {message}")
                if code is not None:
                    done = self.room.command("detect-anomalies", "--path", path, check=False)
                    self.assertEqual((done.returncode, done.stderr), (code, f"opsroom: {message}\n"))

    def test_bad_fields_are_named(self):
        for given, words in [
            ({"path": "good.log", "session": "("}, "session pattern `(`"),
            ({"path": "good.log", "session": "nothing like it"}, "matches none of the"),
            ({"path": "good.log", "session": "(?:a{1000}){1000}"}, "size limit"),
            ({"path": "good.log", "window": "3 parsecs"}, "60s, 5m, 1h or 100lines"),
            ({"path": "good.log", "expected_anomalies": "200%"}, "share"),
            ({"path": "good.log", "limit": 0}, "limit: "),
            ({"path": "good.log", "limit": 1e30}, "limit: "),
            ({"path": "good.log", "format": "csv"}, "`auto`, `sequences`"),
            ({"path": "good.log", "text": "x"}, "give one of them"),
            ({"pth": "good.log"}, "no field `pth`"),
            ({}, "give `path`"),
        ]:
            with self.subTest(given=given):
                status, answer = self.room.request("POST", "/logs/anomalies", given, key=self.key)
                self.assertEqual(status, 400, answer)
                self.assertIn(words, answer["error"]["message"])
                failed, text = self.over_mcp("detect_anomalies", given)
                self.assertEqual((failed, text), (True, "invalid: " + answer["error"]["message"]))

    def test_a_body_that_is_none_is_refused(self):
        json_type = {"Content-Type": "application/json"}
        for body, headers, status, words in [
            (b'{"path":', json_type, 400, "not JSON"),
            (b"[1]", json_type, 400, "not an object"),
            (b'{"text":"\xff\xfe"}', json_type, 400, "not JSON"),
            (b"[" * 10_000, json_type, 400, "not JSON"),
            (b'{"text":' + b"[" * 120 + b"]" * 120 + b"}", json_type, 400, "64 deep"),
            (b"{}", {"Content-Type": "text/plain"}, 415, "send application/json"),
            (b"{}", json_type | {"Content-Encoding": "gzip"}, 415, "encoded"),
            (b"a" * (9 * MIB), json_type, 413, "the body is larger than"),
        ]:
            for path in ["/logs/anomalies", "/setup"]:
                with self.subTest(words=words, path=path):
                    was, answer = self.room.request("POST", path, body, key=self.key, headers=headers)
                    self.assertEqual(was, status, answer)
                    self.assertIn(words, answer["error"]["message"])

    def test_a_stranger_fills_no_memory_with_bodies(self):
        # An open operation reads its body before anybody is known.
        was, answer = self.room.request("POST", "/auth/login", b" " * (17 << 10), headers={"Content-Type": "application/json"})
        self.assertEqual(was, 413, answer)
        self.assertIn("16384", answer["error"]["message"])

    def test_wrong_places_and_keys_are_refused_in_our_own_words(self):
        for method, path, key, status, words in [
            ("GET", "/nothing", self.key, 404, "no such path"),
            ("POST", "/jobs", self.key, 405, "other methods"),
            ("GET", "/jobs/x%ff", self.key, 400, "not UTF-8"),
            ("GET", "/jobs/%00", self.key, 404, "no job"),
            ("GET", "/jobs?bogus=1", self.key, 400, "no field `bogus`"),
            ("GET", "/jobs?state=lost", self.key, 400, "`queued`"),
            ("GET", "/jobs?cursor=zzz", self.key, 400, "not `next`"),
            ("GET", "/api-keys?cursor=zzz", self.key, 400, "not `next`"),
            ("GET", "/jobs", None, 401, "a key is needed"),
            ("GET", "/jobs", "wrong", 401, "valid API key"),
            ("GET", "/metrics", "opk_" + "0" * 64, 401, "valid API key"),
            ("POST", "/mcp", None, 401, "a key is needed"),
        ]:
            with self.subTest(path=path, key=key):
                was, answer = self.room.request(method, path, key=key)
                self.assertEqual(was, status, answer)
                self.assertIn(words, answer["error"]["message"])
        failed, text = self.over_mcp("get_job", {"id": "x"})
        self.assertEqual((failed, text.split(":")[0]), (True, "not_found"))
        with self.assertRaisesRegex(Exception, "there is no tool"):
            self.over_mcp("format_disk", {})

    def test_requests_for_another_server_are_refused(self):
        for head, status in [
            ("GET /health HTTP/1.1\r\nHost: evil.example\r\n", 421),
            ("GET /health HTTP/1.0\r\n", 421),
            ("GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", 421),
            ("GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n", 421),
            ("GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n", 403),
            ("GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: null\r\n", 403),
            ("GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + "a" * MIB + "\r\n", 431),
            ("GET /" + "a" * 70_000 + " HTTP/1.1\r\nHost: localhost\r\n", 414),
        ]:
            with self.subTest(head=head[:60]):
                answer = self.raw(head.encode() + b"Connection: close\r\n\r\n")
                self.assertEqual(answer.split()[1:2], [str(status).encode()], answer[:200])

    def raw(self, sent, wait=40):
        host, port = self.room.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as stream:
            stream.settimeout(wait)
            answer = b""
            try:
                stream.sendall(sent)
                while part := stream.recv(65536):
                    answer += part
            except ConnectionError:
                pass
            return answer

    def test_clients_that_never_finish_do_not_keep_a_connection(self):
        bearer = f"Authorization: Bearer {self.key}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
        slow = {
            "nothing": b"",
            "a part of a preface": b"PRI * HT",
            "a preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "half a head": b"GET /health HTTP/1.1\r\nHost: loc",
            "a body over REST": f"POST /logs/anomalies HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{{".encode(),
            "a body over MCP": f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{{".encode(),
        }
        ended = {}

        def wait_for(name):
            try:
                ended[name] = self.raw(slow[name], wait=100)
            except TimeoutError:
                pass

        threads = [threading.Thread(target=wait_for, args=(name,)) for name in slow]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(ended), sorted(slow))
        for name in ["a body over REST", "a body over MCP"]:
            self.assertIn(b" 408 ", ended[name].split(b"\r\n")[0])

    def test_listeners_that_never_read_do_not_stop_the_others(self):
        host, port = self.room.url.removeprefix("http://").split(":")
        head = f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n\r\n".encode()
        listeners = [socket.create_connection((host, int(port))) for _ in range(50)]
        for listener in listeners:
            listener.sendall(head)
        for _ in range(30):
            status, _ = self.room.request("POST", "/logs/anomalies", {"text": "a\nb\n"}, key=self.key)
            self.assertEqual(status, 200)
        for listener in listeners:
            listener.close()

    def test_a_request_has_an_id_in_its_answer_its_record_and_its_log_line(self):
        import urllib.request

        request = urllib.request.Request(
            self.room.url + "/api-keys", data=json.dumps({"name": "for the id"}).encode(), method="POST",
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", "X-Request-Id": "my-own-1",
                     "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        )
        with urllib.request.urlopen(request) as answer:
            self.assertEqual(answer.headers["x-request-id"], "my-own-1")
            secret = json.loads(answer.read())["key"]
        records = self.room.operation("list-audit", "--operation", "create_api_key")["items"]
        self.assertIn("my-own-1", [record["request_id"] for record in records])
        self.room.request("GET", f"/jobs?operation={'x' * 40}", key=self.key)
        log = (self.room.folder / "server.log").read_text()
        lines = [json.loads(line) for line in log.splitlines()]
        line = next(line for line in lines if '"my-own-1"' in json.dumps(line))
        self.assertEqual(
            (line["http.method"], line["http.route"], line["http.status"], line["trace_id"]),
            ("POST", "/api-keys", 200, "4bf92f3577b34da6a3ce929d0e0e4736"),
        )
        for hidden in [secret, self.key, "x" * 40]:
            self.assertNotIn(hidden, log)
        audit = json.dumps(self.room.operation("list-audit", "--limit", "200"))
        self.assertNotIn(secret, audit)
        self.assertNotIn(self.key, audit)


class Terminal(unittest.TestCase):
    """What a log line or a name can do to the one who reads the answer: nothing."""

    def test_escapes_in_lines_and_names_reach_no_terminal(self):
        evil = "\x1b[2J\x1b]0;pwned\x07\x9b31m\u202e"
        with Room() as room:
            log = room.data / "files" / "evil.log"
            text = LOG.replace("gave up", f"gave up {evil}")
            log.write_text(text)
            for command in [["detect", str(log)], ["templates", str(log)], ["detect", str(log), "--json"],
                            ["detect-anomalies", "--path", "evil.log"], ["detect", f"none{evil}"],
                            ["get-job", evil], ["detect-anomalies", "--path", f"none{evil}"]]:
                with self.subTest(command=command[:2]):
                    shown = self.on_a_terminal([BINARY, "--data-dir", str(room.data), *command])
                    for escape in ["\x1b[2J", "\x1b]", "\x9b", "\u202e", "\x07"]:
                        self.assertNotIn(escape, shown)

    def on_a_terminal(self, command):
        import pty

        near, far = pty.openpty()
        with subprocess.Popen(command, stdin=far, stdout=far, stderr=far) as process:
            os.close(far)
            shown = b""
            try:
                while part := os.read(near, 65536):
                    shown += part
            except OSError:
                pass
            process.wait(60)
        os.close(near)
        self.assertTrue(shown)
        return shown.decode(errors="replace")


class Start(unittest.TestCase):
    """What a server says that cannot start, and how it ends."""

    def exits(self, arguments, environment=None):
        done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60,
                              env={**os.environ, **(environment or {})})
        return done.returncode, done.stdout + done.stderr

    def test_a_port_or_folder_in_use_is_said(self):
        with Room() as room:
            port = room.url.rsplit(":", 1)[1]
            code, text = self.exits(["--data-dir", str(room.folder / "other"), "serve", "--port", port])
            self.assertEqual((code, f"port {port} on 127.0.0.1 is in use" in text), (5, True), text)
            code, text = self.exits(["--data-dir", str(room.data), "serve", "--port", "0"])
            self.assertEqual((code, "another opsroom" in text), (5, True), text)
            code, text = self.exits(["--data-dir", str(room.folder / "other"), "serve", "--port", "0", "--host", "0.0.0.0"])
            self.assertEqual((code, "no administrator" in text), (4, True), text)

    def test_check_says_which_part_failed_by_its_exit_code(self):
        with Room() as room:
            room.stop()
            wrong = room.folder / "wrong.yaml"
            for text, words in [
                ("servr:\n  port: 1\n", "wrong.yaml:1: there is no key `servr`; did you mean `server`?"),
                ("server:\n  port: x\n", "wrong.yaml:2: server.port must be"),
                ("server: [\n", "not YAML"),
                ("server:\n  port: 1\n  port: 2\n", "duplicate"),
                ("a: " + "[" * 5000, "not YAML"),
                ("jobs:\n  max_running: 0\n", "jobs.max_running: 0 is not from 1 to 1000"),
                ("log:\n  level: loud\n", "no level"),
                ("files:\n  roots: ['/']\n", "not the whole file system"),
            ]:
                with self.subTest(text=text[:30]):
                    wrong.write_text(text)
                    code, said = self.exits(["--data-dir", str(room.data), "--config", str(wrong), "check"])
                    self.assertEqual(code, 10, said)
                    self.assertIn(words, said)
            wrong.write_text("files:\n  roots: ['/nonexistent']\n")
            self.assertEqual(self.exits(["--data-dir", str(room.data), "--config", str(wrong), "check"])[0], 11)
            self.assertEqual(self.exits(["--data-dir", "/dev/null/x", "check"])[0], 11)
            down = {"DATABASE_URL": "postgres://somebody:hunter2@127.0.0.1:1/db"}
            code, said = self.exits(["--data-dir", str(room.data), "check"], down)
            self.assertEqual((code, "127.0.0.1:1" in said, "hunter2" in said), (12, True, False), said)
            code, said = self.exits(["--data-dir", str(room.data), "serve", "--port", "0"], down)
            self.assertEqual((code, "hunter2" in said), (6, False), said)
            self.assertEqual(self.exits(["--data-dir", str(room.data), "check"])[0], 0)

    def test_a_second_signal_ends_at_once(self):
        with Room() as room:
            key = room.key()
            lines = "".join(f"2026-01-01 10:00:00 INFO request r{n // 3} step {n % 3}\n" for n in range(400_000))
            (room.data / "files" / "big.log").write_text(lines)
            for _ in range(4):
                room.request("POST", "/logs/anomalies", {"path": "big.log", "background": True}, key=key)
            room.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
            room.process.send_signal(signal.SIGTERM)
            self.assertIn(room.process.wait(10), (0, 130))

    def test_an_open_stream_or_a_silent_client_does_not_hold_up_the_end(self):
        with Room() as room:
            key = room.key()
            host, port = room.url.removeprefix("http://").split(":")
            streams = [socket.create_connection((host, int(port))) for _ in range(3)]
            streams[0].sendall(f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
            streams[1].sendall(b"GET /health HTTP/1.1\r\nHost: loc")
            time.sleep(0.5)
            # Tasks that do not end within the time for it make the exit a failure.
            self.assertEqual(room.stop(), 0)
            for stream in streams:
                stream.close()


if __name__ == "__main__":
    unittest.main()
