"""The MCP gateway: the conformance suite through it, clients that others wrote, and what attacks it must withstand."""

import asyncio
import base64
import hashlib
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

from backend import Backend
from fixtures import Everything, Relay
from room import BINARY, LOG, PEERS, Room

SUITE = PEERS / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
NODE = PEERS / "node_modules/.bin/node"
HERE = pathlib.Path(__file__).parent
MODERN = "2026-07-28"
LEGACY = "2025-11-25"


def configured(room, upstreams):
    """Writes the configuration of a room that has not been started."""
    room.data.mkdir(mode=0o700, exist_ok=True)
    (room.data / "opsroom.yaml").write_text(json.dumps({"gateway": {"upstreams": upstreams}}))
    return room


def meta(**more):
    return {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        **more,
    }


class Gateway(unittest.TestCase):
    """One room with a service of each era behind it."""

    @classmethod
    def setUpClass(cls):
        cls.modern = Everything().__enter__()
        cls.legacy = Everything("--legacy").__enter__()
        cls.room = configured(
            Room(),
            [
                {"name": "modern", "url": cls.modern.url},
                {"name": "legacy", "url": cls.legacy.url},
                {"name": "self", "command": [BINARY, "--data-dir", "/nowhere/opsroom", "mcp"]},
            ],
        ).__enter__()
        cls.key = cls.room.key("operator")
        cls.relay = Relay(cls.room.url, cls.key).__enter__()

    @classmethod
    def tearDownClass(cls):
        for one in (cls.relay, cls.room, cls.legacy, cls.modern):
            one.__exit__(None, None, None)

    def modern_call(self, method, params=None, path="/mcp", key=None, headers=None, **of_meta):
        params = {**(params or {}), "_meta": meta(**of_meta)}
        name = params.get("name") or params.get("uri")
        sent = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Accept": "application/json, text/event-stream"}
        if name:
            sent["Mcp-Name"] = name
        sent.update(headers or {})
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self.room.request("POST", path, body, key or self.key, {k: v for k, v in sent.items() if v is not None})


class Conformance(Gateway):
    """All scored scenarios of a revision, against a service's own endpoint at the gateway."""

    def suite(self, service, revision, baseline=None):
        out = self.room.folder / f"conformance-{service}-{revision}"
        command = [NODE, SUITE, "server", "--url", f"{self.relay.url}/mcp/services/{service}", "--requirements", revision, "-o", out]
        if baseline:
            command += ["--expected-failures", HERE / baseline]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "NO_COLOR": "1"})
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-2000:])

    def test_a_modern_client_and_a_modern_service(self):
        self.suite("modern", MODERN)

    def test_a_legacy_client_and_a_legacy_service(self):
        self.suite("legacy", LEGACY)

    def test_a_modern_client_and_a_legacy_service(self):
        self.suite("legacy", MODERN, "conformance-modern-client-legacy-service.yml")

    def test_a_legacy_client_and_a_modern_service(self):
        self.suite("modern", LEGACY, "conformance-legacy-client-modern-service.yml")


class ClientConformance(unittest.TestCase):
    """The gateway as a client of services: the suite plays the service."""

    @classmethod
    def setUpClass(cls):
        environment = {
            "OPSROOM__EGRESS__ALLOW_ADDRESSES": '["127.0.0.1", "::1"]',
            # The suite's authorization server knows one metadata document, and does not read it.
            "OPSROOM__SERVICES__OAUTH_CLIENT_ID": "https://conformance-test.local/client-metadata.json",
        }
        cls.room = cls.enterClassContext(Room(environment=environment))
        cls.environment = {**os.environ, "NO_COLOR": "1", "OPSROOM_URL": cls.room.url, "OPSROOM_KEY": cls.room.key()}

    def suite(self, revision):
        out = self.room.folder / f"conformance-client-{revision}"
        command = [NODE, SUITE, "client", "--command", f"{sys.executable} {HERE}/conformance_client.py"]
        command += ["--requirements", revision, "--expected-failures", HERE / "conformance-client.yml", "-o", out]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=self.environment)
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-4000:])

    def test_services_of_2026(self):
        self.suite(MODERN)

    def test_services_of_2025(self):
        self.suite(LEGACY)


class Eras(Gateway):
    """Clients that others wrote, and what both eras promise."""

    def headers(self):
        return {"Authorization": f"Bearer {self.key}"}

    def test_fastmcp_calls_services_of_both_eras(self):
        async def run(service):
            transport = StreamableHttpTransport(f"{self.room.url}/mcp/services/{service}", headers=self.headers())
            async with Client(transport) as client:
                names = {tool.name for tool in await client.list_tools()}
                self.assertIn("test_simple_text", names)
                result = await client.call_tool("test_simple_text", {})
                self.assertIn("simple text", result.content[0].text)
                resource = await client.read_resource("test://static-text")
                self.assertIn("static text resource", resource[0].text)

        asyncio.run(run("modern"))
        asyncio.run(run("legacy"))

    def test_all_tools_have_their_services_name_at_the_common_endpoint(self):
        async def run():
            async with Client(StreamableHttpTransport(f"{self.room.url}/mcp", headers=self.headers())) as client:
                names = {tool.name for tool in await client.list_tools()}
                self.assertLessEqual({"get_info", "modern__test_simple_text", "legacy__test_simple_text", "self__get_info"}, names)
                for tool in ("modern__test_simple_text", "legacy__test_simple_text", "self__get_info", "get_info"):
                    self.assertFalse((await client.call_tool(tool, {})).is_error, tool)

        asyncio.run(run())

    def test_standard_input_and_output_reach_the_services_too(self):
        async def run():
            async with Client(StdioTransport(BINARY, ["--data-dir", str(self.room.data), "mcp"])) as client:
                result = await client.call_tool("legacy__test_simple_text", {})
                self.assertIn("simple text", result.content[0].text)

        asyncio.run(run())

    def test_a_legacy_service_asks_a_modern_client_by_a_parked_call(self):
        capabilities = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
        call = {"name": "test_elicitation", "arguments": {"message": "Who?"}}
        path = "/mcp/services/legacy"
        status, first = self.modern_call("tools/call", call, path, **capabilities)
        self.assertEqual((status, first["result"]["resultType"]), (200, "input_required"), first)
        key, request = next(iter(first["result"]["inputRequests"].items()))
        self.assertEqual(request["method"], "elicitation/create")
        answers = {key: {"action": "accept", "content": {"username": "ada", "email": "ada@example.com"}}}
        again = {**call, "inputResponses": answers, "requestState": first["result"]["requestState"]}
        stranger = self.room.key("operator")
        _, refused = self.modern_call("tools/call", again, path, key=stranger, **capabilities)
        self.assertEqual(refused["error"]["code"], -32602, "another principal brings the state")
        _, other = self.modern_call("tools/call", {**again, "arguments": {"message": "Other?"}}, path, **capabilities)
        self.assertEqual(other["error"]["code"], -32602, "the state is brought with other arguments")
        _, done = self.modern_call("tools/call", again, path, **capabilities)
        self.assertEqual(done["result"]["resultType"], "complete", done)
        self.assertIn("ada", done["result"]["content"][0]["text"])
        _, replayed = self.modern_call("tools/call", again, path, **capabilities)
        self.assertEqual(replayed["error"]["code"], -32602, "the state is replayed")

    def test_the_event_stream_of_2024_is_served(self):
        stream = socket.create_connection(self.room.url.removeprefix("http://").split(":"), timeout=20)
        head = f"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer {self.key}\r\n\r\n"
        stream.sendall(head.encode())
        read = b""

        def until(word):
            nonlocal read
            while word not in read:
                piece = stream.recv(65536)
                self.assertTrue(piece, read)
                read += piece

        until(b"event: endpoint")
        until(b"session_id=")
        time.sleep(0.1)
        path = [line for line in read.decode().splitlines() if line.startswith("data:")][0].removeprefix("data:").strip()
        hello = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        self.assertEqual(self.room.request("POST", path, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}, self.key)[0], 202)
        until(b'"protocolVersion":"2024-11-05"')
        call = {"name": "modern__test_simple_text", "arguments": {}}
        self.room.request("POST", path, {"jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": call}, self.key)
        until(b"This is a simple text response")
        self.assertIn(b'"id":"two"', read)
        other = self.room.key("operator")
        self.assertEqual(self.room.request("POST", path, {"jsonrpc": "2.0", "id": 3, "method": "ping"}, other)[0], 404)
        stream.close()

    def test_a_long_call_is_a_task_for_a_client_that_knows_tasks(self):
        knows = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}}
        _, found = self.modern_call("server/discover", **knows)
        self.assertIn("io.modelcontextprotocol/tasks", found["result"]["capabilities"]["extensions"])
        call = {"name": "detect_anomalies", "arguments": {"text": LOG}}
        _, plain = self.modern_call("tools/call", call)
        self.assertEqual(plain["result"]["resultType"], "complete")
        _, begun = self.modern_call("tools/call", call, **knows)
        task = begun["result"]
        self.assertEqual((task["resultType"], "result" in task), ("task", False), begun)
        # What mostly answers at once is answered, and not put off.
        _, found = self.modern_call("tools/call", {"name": "search_logs", "arguments": {"query": "nothing"}}, **knows)
        self.assertEqual((found["result"]["resultType"], found["result"]["structuredContent"]["count"]), ("complete", 0), found)
        later = {"name": "search_logs", "arguments": {"query": "nothing", "background": True}}
        self.assertIn("job_id", json.dumps(self.modern_call("tools/call", later, **knows)[1]["result"]["structuredContent"]))
        named = {"Mcp-Name": task["taskId"]}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            _, got = self.modern_call("tasks/get", {"taskId": task["taskId"]}, headers=named, **knows)
            if got["result"]["status"] != "working":
                break
            time.sleep(0.2)
        self.assertEqual((got["result"]["status"], got["result"]["resultType"]), ("completed", "complete"), got)
        self.assertIn("req-0137", json.dumps(got["result"]["result"]["structuredContent"]))
        _, ended = self.modern_call("tasks/cancel", {"taskId": task["taskId"]}, headers=named, **knows)
        self.assertEqual(ended["result"], {"resultType": "complete"})
        status, unknowing = self.modern_call("tasks/get", {"taskId": task["taskId"]}, headers=named)
        self.assertEqual((status, unknowing["error"]["code"]), (400, -32021))
        stranger = {"Mcp-Name": "01a1fe98-f464-745e-a6c9-5fe00d84827d"}
        _, none = self.modern_call("tasks/get", {"taskId": stranger["Mcp-Name"]}, headers=stranger, **knows)
        self.assertEqual(none["error"]["code"], -32602)
        status, other = self.modern_call("tasks/get", {"taskId": task["taskId"]}, headers=stranger, **knows)
        self.assertEqual((status, other["error"]["code"]), (400, -32020))
        self.assertEqual(self.modern_call("tasks/list", **knows)[1]["error"]["code"], -32601)

    def test_a_request_of_either_era_without_what_it_needs_is_refused_with_its_code(self):
        status, answer = self.modern_call("tools/list", headers={"MCP-Protocol-Version": None})
        self.assertEqual((status, answer["error"]["code"]), (400, -32020))
        status, answer = self.room.request("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, self.key)
        self.assertEqual(status, 400)
        session = {"Mcp-Session-Id": "0" * 64}
        status, _ = self.room.request("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, self.key, session)
        self.assertEqual(status, 404)
        status, answer = self.modern_call("initialize")
        self.assertEqual((status, answer["error"]["code"]), (404, -32601))
        self.assertEqual(self.modern_call("tools/list", path="/mcp/services/none")[0], 404)
        self.assertEqual(self.room.request("GET", "/mcp", key=self.key)[0], 405)


BAD = ("half", "huge", "deep", "wrong_id", "no_json", "never", "redirect", "smuggle")


class Attacks(unittest.TestCase):
    """What the gateway must withstand, each by its name."""

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(["echo", "look", "ask_url", *BAD], read_only=("look",)).__enter__()
        cls.room = configured(
            Room(),
            [
                {"name": "bad", "url": cls.backend.url, "deadline_seconds": 3, "headers": {"Authorization": "Bearer of-the-service"}},
                {"name": "other", "url": cls.backend.url},
                {"name": "theirs", "url": cls.backend.url, "team": "payments", "headers": {"Authorization": "Bearer of-payments"}},
                {"name": "gone", "url": "http://127.0.0.1:9/mcp"},
            ],
        ).__enter__()
        cls.key = cls.room.key("operator")

    @classmethod
    def tearDownClass(cls):
        cls.room.__exit__()
        cls.backend.__exit__()

    modern_call = Gateway.modern_call

    def call(self, name, path="/mcp/services/bad", **more):
        return self.modern_call("tools/call", {"name": name, "arguments": {}}, path, **more)

    def test_bad_answers_of_a_service_are_told_and_hurt_nobody_else(self):
        for name in BAD:
            with self.subTest(name):
                status, answer = self.call(name)
                self.assertEqual(status, 200, answer)
                self.assertIn("the service bad", answer["error"]["message"])
                _, other = self.call("echo", "/mcp/services/other")
                self.assertEqual(other["result"]["content"][0]["text"], "hello")

    def test_a_slow_service_delays_no_other(self):
        threads = [threading.Thread(target=self.call, args=("never",)) for _ in range(40)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        _, answer = self.call("echo", "/mcp/services/other")
        took = time.monotonic() - begun
        for thread in threads:
            thread.join()
        self.assertEqual(answer["result"]["content"][0]["text"], "hello")
        self.assertLess(took, time.monotonic() - begun, "it was answered while the slow ones waited")

    def test_a_service_that_is_gone_leaves_the_lists_of_the_others(self):
        _, answer = self.modern_call("tools/list")
        names = {tool["name"] for tool in answer["result"]["tools"]}
        self.assertIn("other__echo", names)
        self.assertFalse({name for name in names if name.startswith("gone__")})

    def test_a_long_list_has_pages(self):
        with Backend([f"tool-{n:04}" for n in range(1234)]) as many:
            with configured(Room(), [{"name": "many", "url": many.url}]) as room:
                self_room, self.room, self.key = self.room, room, room.key("operator")
                try:
                    names, cursor, pages = [], {}, 0
                    while pages < 9:
                        _, answer = self.modern_call("tools/list", cursor, "/mcp/services/many")
                        pages += 1
                        names += [tool["name"] for tool in answer["result"]["tools"]]
                        if "nextCursor" not in answer["result"]:
                            break
                        cursor = {"cursor": answer["result"]["nextCursor"]}
                    self.assertEqual((pages, len(names), len(set(names))), (3, 1234, 1234))
                    _, answer = self.modern_call("tools/list", {"cursor": "at-7"}, "/mcp/services/many")
                    self.assertEqual(answer["error"]["code"], -32602)
                finally:
                    self.room, self.key = self_room, type(self).key

    def test_token_passthrough(self):
        self.call("echo")
        headers, _, _ = self.backend.calls()[-1]
        headers = {name.lower(): value for name, value in headers.items()}
        self.assertEqual(headers["authorization"], "Bearer of-the-service")
        self.call("echo", "/mcp/services/other")
        headers, _, _ = self.backend.calls()[-1]
        self.assertNotIn(self.key, json.dumps(headers))
        self.assertNotIn("authorization", {name.lower() for name in headers})

    def test_header_and_body_desync(self):
        calls = len(self.backend.calls())
        status, answer = self.call("echo", headers={"Mcp-Name": "half"})
        self.assertEqual((status, answer["error"]["code"]), (400, -32020))
        status, answer = self.call("echo", headers={"Mcp-Method": "tools/list"})
        self.assertEqual((status, answer["error"]["code"]), (400, -32020))
        twice = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"half","_meta":%s}}' % json.dumps(meta()).encode()
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
        status, answer = self.room.request("POST", "/mcp/services/bad", twice, self.key, {**headers, "Content-Type": "application/json"})
        self.assertEqual((status, answer["error"]["code"]), (400, -32602))
        self.assertEqual(len(self.backend.calls()), calls, "none of them reached the service")

    def test_unknown_fields_and_meta_pass_through(self):
        params = {"name": "bad__echo", "arguments": {"n": 7}, "later": [1, 2]}
        _, answer = self.modern_call("tools/call", params, **{"example.com/mine": {"x": 1}, "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"})
        _, message, _ = self.backend.calls()[-1]
        self.assertEqual(message["params"]["name"], "echo")
        self.assertEqual(message["params"]["later"], [1, 2])
        self.assertEqual(message["params"]["_meta"]["example.com/mine"], {"x": 1})
        self.assertEqual(answer["result"]["unknown"], {"kept": 1.0})

    def test_ssrf_by_redirect(self):
        calls = len(self.backend.seen)
        _, answer = self.call("redirect")
        self.assertIn("307", answer["error"]["message"])
        self.assertEqual(len(self.backend.seen), calls + 1, "the redirect was not followed")

    def test_denied_tools_are_neither_listed_nor_callable(self):
        key = self.room.key("operator", scopes="tools:execute_tool:bad__echo")
        _, answer = self.modern_call("tools/list", path="/mcp/services/bad", key=key)
        self.assertEqual([tool["name"] for tool in answer["result"]["tools"]], ["echo"])
        _, denied = self.call("half", key=key)
        _, unknown = self.call("hal_", key=key)
        self.assertEqual(denied["error"]["code"], -32602)
        self.assertEqual(denied["error"]["message"].replace("half", "?"), unknown["error"]["message"].replace("hal_", "?"))
        _, answer = self.modern_call("tools/list", key=key)
        self.assertEqual([tool["name"] for tool in answer["result"]["tools"] if "__" in tool["name"]], ["bad__echo"])

    def test_confused_deputy_a_services_credentials_serve_its_team_alone(self):
        calls = len(self.backend.calls())
        for path, name in (("/mcp/services/theirs", "echo"), ("/mcp", "theirs__echo")):
            _, answer = self.modern_call("tools/call", {"name": name, "arguments": {}}, path)
            self.assertIn("error", answer)
        _, answer = self.modern_call("tools/list")
        self.assertFalse([tool["name"] for tool in answer["result"]["tools"] if tool["name"].startswith("theirs__")])
        self.assertEqual(len(self.backend.calls()), calls)

    def test_session_hijack_an_id_opens_nothing_for_another_key(self):
        hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        begun = urllib.request.urlopen(urllib.request.Request(f"{self.room.url}/mcp", data=body, headers=headers), timeout=30)
        session = begun.headers["Mcp-Session-Id"]
        self.assertRegex(session, "^[0-9a-f]{64}$")
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        stolen = {"Mcp-Session-Id": session}
        self.assertEqual(self.room.request("POST", "/mcp", ping, self.key, stolen)[0], 200)
        self.assertEqual(self.room.request("POST", "/mcp", ping, self.room.key("administrator"), stolen)[0], 404)
        self.assertEqual(self.room.request("POST", "/mcp", ping, None, stolen)[0], 401)

    def test_cross_tenant_cache_a_result_is_kept_for_who_asked_and_for_what(self):
        administrator = self.room.key("administrator")
        configured = {"cache_enabled": True, "cache_ttl": 600}
        status, answer = self.room.request("PATCH", "/tools/other__look", configured, administrator)
        self.assertEqual(status, 200, answer)
        seen = lambda: len([1 for _, message, _ in self.backend.calls() if message["params"]["name"] == "look"])

        def call(key, **arguments):
            before = seen()
            _, answer = self.modern_call("tools/call", {"name": "other__look", "arguments": arguments}, key=key)
            self.assertEqual(answer["result"]["content"][0]["text"], "hello")
            return seen() - before

        deadline = time.monotonic() + 20
        # What is configured reaches the gateway a moment later.
        while call(self.key, x=1) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual(call(self.key, x=1), 0)
        self.assertEqual(call(self.key, x=2), 1, "other arguments")
        self.assertEqual(call(self.room.key("operator"), x=1), 1, "another principal")
        _, listed = self.modern_call("tools/list")
        self.assertEqual(listed["result"]["cacheScope"], "private")

    def test_authorization_url_a_service_cannot_have_a_person_open_a_script(self):
        capabilities = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}, "url": {}}}}
        _, answer = self.modern_call("tools/call", {"name": "ask_url", "arguments": {}}, "/mcp/services/bad", **capabilities)
        self.assertIn("https URL", answer["error"]["message"])
        self.assertNotIn("javascript", json.dumps(answer))

    def test_scope_challenge_a_request_without_a_key_is_told_how_to_come_by_one(self):
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{self.room.url}/mcp", data=b"{}", method="POST"), timeout=30)
        self.assertEqual(refused.exception.code, 401)
        self.assertTrue(refused.exception.headers["WWW-Authenticate"].startswith("Bearer"))
        refused.exception.close()

    def test_a_viewer_calls_only_what_reads(self):
        viewer = self.room.key("viewer")
        _, answer = self.call("echo", key=viewer)
        self.assertEqual(answer["error"]["code"], -32602, "the service does not say that echo only reads")

    def test_dns_rebinding(self):
        self.assertEqual(self.modern_call("tools/list", headers={"Host": "evil.example"})[0], 421)
        self.assertEqual(self.modern_call("tools/list", headers={"Origin": "https://evil.example"})[0], 403)

    def test_without_a_key_nothing_is_answered(self):
        for path in ("/mcp", "/mcp/services/bad", "/mcp/services/none", "/sse", "/messages/"):
            self.assertEqual(self.room.request("POST", path, {"jsonrpc": "2.0", "id": 1, "method": "ping"})[0], 401, path)

    def test_deep_and_large_messages_are_refused(self):
        deep = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b"[" * 5000 + b"]" * 5000 + b"}"
        self.assertEqual(self.room.request("POST", "/mcp", deep, self.key, {"Content-Type": "application/json"})[0], 400)
        large = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":"' + b"x" * (9 << 20) + b'"}'
        self.assertEqual(self.room.request("POST", "/mcp", large, self.key, {"Content-Type": "application/json"})[0], 413)

    def test_a_services_secret_is_in_no_log_and_no_answer(self):
        shown = self.room.command("config", "show").stdout
        self.assertNotIn("of-the-service", shown)
        self.assertNotIn("of-the-service", (self.room.folder / "server.log").read_text())


class Children(unittest.TestCase):
    """Services that are child processes."""

    def test_a_child_that_is_killed_is_started_again_and_none_is_left(self):
        script = (
            "import json, os, sys\n"
            "for line in sys.stdin:\n"
            "    m = json.loads(line)\n"
            "    r = {'initialize': {'protocolVersion': '2025-06-18', 'capabilities': {'tools': {}}, 'serverInfo': {'name': 'pid', 'version': '1'}},\n"
            "         'tools/list': {'tools': [{'name': 'pid', 'inputSchema': {'type': 'object'}}, {'name': 'env', 'inputSchema': {'type': 'object'}}]}}.get(m['method'])\n"
            "    if m['method'] == 'tools/call':\n"
            "        said = str(os.getpid()) if m['params']['name'] == 'pid' else json.dumps(dict(os.environ))\n"
            "        r = {'content': [{'type': 'text', 'text': said}]}\n"
            "    if 'id' in m:\n"
            "        a = {'result': r} if r is not None else {'error': {'code': -32601, 'message': 'no'}}\n"
            "        print(json.dumps({'jsonrpc': '2.0', 'id': m['id'], **a}), flush=True)\n"
        )
        upstream = {"name": "child", "command": ["python3", "-c", script], "environment": {"GREETING": "hello"}}
        with configured(Room(environment={"OPSROOM_TEST_SECRET": "hunter2"}), [upstream]) as room:
            self.room, self.key = room, room.key("operator")

            def said(tool):
                _, answer = Gateway.modern_call(self, "tools/call", {"name": tool, "arguments": {}}, "/mcp/services/child")
                return answer.get("result", {}).get("content", [{}])[0].get("text")

            environment = json.loads(said("env"))
            self.assertEqual(environment["GREETING"], "hello")
            self.assertNotIn("hunter2", json.dumps(environment))
            first = int(said("pid"))
            os.kill(first, 9)
            deadline = time.monotonic() + 60
            second = None
            while not second and time.monotonic() < deadline:
                time.sleep(0.2)
                second = said("pid")
            self.assertNotEqual(int(second), first)
            self.assertFalse(os.path.exists(f"/proc/{first}"), "a zombie was left")
        deadline = time.monotonic() + 30
        while os.path.exists(f"/proc/{second}") and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertFalse(os.path.exists(f"/proc/{second}"), "the child outlived the server")


class RemoteEnd:
    """The other end of a pipe: a WebSocket server that plays the MCP client."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}/mcp/?token=hunter2"
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        self.listener.settimeout(60)
        self.socket, _ = self.listener.accept()
        self.socket.settimeout(30)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(4096)
        key = [line for line in head.decode().split("\r\n") if line.lower().startswith("sec-websocket-key")][0].split(": ")[1]
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        answer = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        self.socket.sendall(answer.encode())

    def send(self, message):
        data = (json.dumps(message) + "\n").encode()
        length = struct.pack("!B", len(data)) if len(data) < 126 else struct.pack("!BH", 126, len(data))
        self.socket.sendall(b"\x81" + length + data)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def read(self):
        while True:
            first, second = self.exactly(2)
            length = second & 127
            if length == 126:
                (length,) = struct.unpack("!H", self.exactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self.exactly(8))
            mask = self.exactly(4)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.exactly(length)))
            if first & 15 == 1:
                return json.loads(data)

    def ask(self, id, method, params=None):
        self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}})
        while True:
            message = self.read()
            if message.get("id") == id:
                return message


class Pipe(unittest.TestCase):
    """`opsroom pipe` serves a remote client through disconnects."""

    def serves(self, data, remote):
        environment = {**os.environ, "MCP_ENDPOINT": remote.url}
        log = open(data.parent / "pipe.log", "w+")
        process = subprocess.Popen([BINARY, "--data-dir", str(data), "pipe"], env=environment, stdout=log, stderr=log)
        try:
            hello = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "remote", "version": "1"}}
            for round in range(4):
                remote.accept()
                self.assertEqual(remote.ask(0, "initialize", hello)["result"]["protocolVersion"], "2024-11-05")
                remote.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
                names = {tool["name"] for tool in remote.ask("list", "tools/list")["result"]["tools"]}
                self.assertIn("get_info", names)
                called = remote.ask(f"call-{round}", "tools/call", {"name": "get_info", "arguments": {}})
                self.assertFalse(called["result"]["isError"])
                self.assertEqual(remote.ask(9, "ping")["result"], {})
                remote.socket.close()
        finally:
            process.terminate()
            process.wait(30)
            log.seek(0)
            text = log.read()
            log.close()
        self.assertNotIn("hunter2", text)

    def test_three_disconnects_without_a_server(self):
        room = Room()
        with RemoteEnd() as remote:
            self.serves(room.data, remote)

    def test_a_pipe_of_the_configuration_is_served_with_its_role(self):
        with RemoteEnd() as remote:
            room = Room()
            room.data.mkdir(mode=0o700)
            pipe = {"name": "desk", "endpoint": remote.url, "role": "viewer"}
            (room.data / "opsroom.yaml").write_text(json.dumps({"pipes": [pipe]}))
            with room:
                hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "remote", "version": "1"}}
                for _ in range(2):
                    remote.accept()
                    remote.ask(0, "initialize", hello)
                    names = {tool["name"] for tool in remote.ask(1, "tools/list")["result"]["tools"]}
                    self.assertIn("get_info", names)
                    self.assertNotIn("put_secret", names)
                    self.assertFalse(remote.ask(2, "tools/call", {"name": "get_info", "arguments": {}})["result"]["isError"])
                    remote.socket.close()
                self.assertNotIn("hunter2", (room.folder / "server.log").read_text())
                self.assertNotIn("hunter2", room.command("config", "show").stdout)

    def test_three_disconnects_beside_a_running_server(self):
        with Room() as room, RemoteEnd() as remote:
            self.serves(room.data, remote)


if __name__ == "__main__":
    unittest.main()
