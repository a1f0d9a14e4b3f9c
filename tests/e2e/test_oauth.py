"""MCP clients that connect by a person's login: clients and a suite that others wrote against our authorization
server, and the attacks that it must withstand over HTTP."""

import asyncio
import base64
import hashlib
import http.cookiejar
import http.server
import html
import json
import os
import pathlib
import re
import secrets
import ssl
import subprocess
import threading
import time
import traceback
import unittest
import urllib.error
import urllib.parse
import urllib.request

from fastmcp import Client
from fastmcp.client.auth import OAuth

from room import PEERS, Room

SUITE = PEERS / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
NODE = PEERS / "node_modules/.bin/node"
PASSWORD = "correct horse battery"


class Browser:
    """A browser without scripts: it keeps cookies, and fills in the forms of pages."""

    def __init__(self, base):
        self.base = base
        self.cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https")))
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies), Stay())
        self.page = ""

    def go(self, url, fields=None, **headers):
        """Answers the status and the target of a redirect; the page is in `page`."""
        url = urllib.parse.urljoin(self.base, url)
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(url, data=data, headers={} if fields is None else {"Origin": self.base, **headers})
        try:
            with self.opener.open(request, timeout=30) as answer:
                self.page, self.headers = answer.read().decode(), answer.headers
                return answer.status, None
        except urllib.error.HTTPError as error:
            self.page, self.headers = error.read().decode(), error.headers
            return error.code, error.headers.get("Location")

    def fields(self):
        """The hidden fields and the boxes of the page."""
        found = {}
        for tag in re.findall(r"<input [^>]*>", self.page):
            name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
            if 'type="hidden"' in tag or 'type="checkbox"' in tag:
                found[html.unescape(name.group(1))] = html.unescape(value.group(1)) if value else "on"
        return found

    def authorize(self, url, username, answer="yes", without=()):
        """Logs in when asked to, answers the consent page; answers where the client is told."""
        status, target = self.go(url)
        if status == 303 and target.startswith("/login"):
            self.go(target)
            status, target = self.go("/login", {**self.fields(), "username": username, "password": PASSWORD})
            assert status == 303, (status, self.page)
            status, target = self.go(target)
        assert status == 200, (status, target, self.page)
        fields = {name: value for name, value in self.fields().items() if name not in without}
        status, target = self.go("/oauth/authorize", {**fields, "answer": answer})
        assert status == 303, (status, self.page)
        return target


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Headless(OAuth):
    """fastmcp's own OAuth client; the browser that it would open is ours."""

    def __init__(self, browser, username, **more):
        super().__init__(callback_host="127.0.0.1", callback_timeout=30, **more)
        self.browser, self.username = browser, username

    async def redirect_handler(self, authorization_url):
        self.asked = authorization_url

        def person():
            try:
                return come_back()
            except Exception:
                traceback.print_exc()
                raise

        def come_back():
            target = self.browser.authorize(self.asked, self.username)
            deadline = time.monotonic() + 20
            while True:
                try:
                    return urllib.request.urlopen(target, timeout=10).read()
                except urllib.error.URLError:
                    # The client's own server is just starting.
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)

        self.person = asyncio.get_running_loop().run_in_executor(None, person)


def proof():
    verifier = secrets.token_urlsafe(48)
    return verifier, base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class Documents:
    """A web server with metadata documents of clients, and its own authority."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.asked, self.documents = [], {}
        key, self.certificate = self.folder / "key.pem", self.folder / "cert.pem"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        made += ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", self.certificate]
        subprocess.run(made, check=True, capture_output=True)
        documents = self

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                documents.asked.append(self.path)
                document = documents.documents.get(self.path)
                self.send_response(200 if document else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(document or b"{}")))
                self.end_headers()
                self.wfile.write(document or b"{}")

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def put(self, path, **document):
        url = self.url + path
        body = {"client_id": url, "client_name": "A published client", "grant_types": ["authorization_code", "refresh_token"], **document}
        self.documents[path] = json.dumps(body).encode()
        return url

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class OAuthServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.room = Room()
        cls.documents = Documents(cls.room.folder)
        cls.addClassCleanup(cls.documents.close)
        cls.room.environment = {
            "OPSROOM__OAUTH__REGISTRATION": "true",
            "OPSROOM__EGRESS__ALLOW_ADDRESSES": '["127.0.0.1", "::1"]',
            "OPSROOM__EGRESS__CA_FILE": str(cls.documents.certificate),
        }
        cls.enterClassContext(cls.room)
        for name, role in (("ada", "operator"), ("eve", "viewer")):
            made = cls.room.operation("create-user", "--username", name, "--email", f"{name}@example.com", "--role", role)
            cls.room.request("POST", "/auth/password/reset", {"token": made["invitation"], "password": PASSWORD})

    def request(self, client, more=None, **fields):
        verifier, challenge = proof()
        query = {
            "response_type": "code", "client_id": client, "redirect_uri": "http://127.0.0.1:1/callback", "state": "s",
            "code_challenge": challenge, "code_challenge_method": "S256", "resource": f"{self.room.url}/mcp", **fields,
        }
        return f"{self.room.url}/oauth/authorize?{urllib.parse.urlencode(query)}", verifier

    def client(self, *redirects):
        flags = [flag for uri in redirects or ["http://127.0.0.1/callback"] for flag in ("--redirect-uris", uri)]
        return self.room.operation("create-oauth-client", "--name", "Test", *flags)["client"]["id"]

    def token(self, **fields):
        body = urllib.parse.urlencode(fields).encode()
        return self.room.request("POST", "/oauth/token", body, headers={"Content-Type": "application/x-www-form-urlencoded"})

    def connect(self, client, username="ada", **more):
        url, verifier = self.request(client, **more)
        back = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(Browser(self.room.url).authorize(url, username)).query))
        redeemed = {"grant_type": "authorization_code", "code": back["code"], "redirect_uri": "http://127.0.0.1:1/callback", "code_verifier": verifier, "client_id": client}
        return self.token(**redeemed), redeemed

    def call(self, token, path="/mcp", name="get_info"):
        version = "2026-07-28"
        meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}, "_meta": meta}}
        headers = {"MCP-Protocol-Version": version, "Mcp-Method": "tools/call", "Mcp-Name": name, "Accept": "application/json, text/event-stream"}
        return self.room.request("POST", path, body, token, headers)


class Clients(OAuthServer):
    def fastmcp(self, **more):
        oauth = Headless(Browser(self.room.url), "ada", **more)

        async def run():
            async with Client(f"{self.room.url}/mcp", auth=oauth) as client:
                names = {tool.name for tool in await client.list_tools()}
                self.assertIn("get_info", names)
                self.assertFalse((await client.call_tool("get_info", {})).is_error)
                first = oauth.context.current_tokens
                # As if the hour were over: the client renews by itself.
                oauth.context.token_expiry_time = time.time() - 1
                self.assertFalse((await client.call_tool("get_info", {})).is_error)
                second = oauth.context.current_tokens
                self.assertNotEqual(first.access_token, second.access_token)
                self.assertNotEqual(first.refresh_token, second.refresh_token)
                return second.access_token

        return asyncio.run(run()), oauth

    def test_fastmcp_registers_logs_in_calls_and_renews(self):
        token, oauth = self.fastmcp()
        self.assertTrue(oauth.context.client_info.client_id.startswith("oc-"))
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(oauth.asked).query))
        self.assertEqual(asked["resource"], f"{self.room.url}/mcp")
        calls = self.room.operation("list-calls", "--operation", "get_info", "--limit", "1")
        deadline = time.monotonic() + 10
        # Another client's call may be the newest that is written.
        ours = "FastMCP Client on behalf of ada"
        while not any(call["name"] == ours for call in calls["items"]) and time.monotonic() < deadline:
            time.sleep(0.3)
            calls = self.room.operation("list-calls", "--operation", "get_info", "--limit", "1")
        self.assertEqual(calls["items"][0]["name"], ours)
        # The access that the client has is not what a key has.
        self.assertEqual(self.room.request("GET", "/jobs", key=token)[0], 401)
        grant = next(grant for grant in self.room.operation("list-grants")["items"] if grant["client_name"] == "FastMCP Client")
        self.room.operation("revoke-grant", grant["id"])
        self.assertEqual(self.call(token)[0], 401)

    def test_fastmcp_logs_in_by_its_metadata_document(self):
        url = self.documents.put("/client.json", redirect_uris=["http://127.0.0.1/callback"])
        _, oauth = self.fastmcp(client_metadata_url=url)
        self.assertEqual(oauth.context.client_info.client_id, url)
        self.assertEqual(self.documents.asked.count("/client.json"), 1)

    def test_the_suites_authorization_scenarios_pass(self):
        probe = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        port = probe.server_address[1]
        probe.server_close()
        client = self.client(f"http://127.0.0.1:{port}/callback")
        command = [NODE, SUITE, "authorization", "--url", self.room.url, "--client-id", client, "--resource", f"{self.room.url}/mcp"]
        command += ["--port", str(port), "-o", str(self.room.folder / "conformance-authorization")]
        environment = {**os.environ, "NO_COLOR": "1"}
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        told = ""
        for line in running.stdout:
            told += line
            if "/oauth/authorize?" in line:
                urllib.request.urlopen(Browser(self.room.url).authorize(line.strip(), "ada"), timeout=20).read()
        self.assertEqual(running.wait(60), 0, told[-6000:])
        self.assertRegex(told, r"authorization-code-grant: [1-9]\d* passed, 0 failed", told[-3000:])
        self.assertRegex(told, r"authorization-server-metadata-endpoint: [1-9]\d* passed, 0 failed", told[-3000:])


class Challenges(OAuthServer):
    def test_a_client_without_a_token_is_told_where_to_get_one(self):
        for path in ("/mcp", "/mcp/services/time", "/sse"):
            for key in (None, "oat_" + "0" * 64):
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                request = urllib.request.Request(self.room.url + path, data=b"{}", headers={"Content-Type": "application/json", **headers})
                with self.assertRaises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(request, timeout=20)
                challenge = refused.exception.headers["WWW-Authenticate"]
                self.assertEqual((refused.exception.code, 'error="invalid_token"' in challenge), (401, key is not None))
                metadata = re.search(r'resource_metadata="([^"]+)"', challenge).group(1)
                status, found = self.room.request("GET", metadata.removeprefix(self.room.url))
                self.assertEqual((status, found["resource"]), (200, self.room.url + path))
                self.assertEqual(found["authorization_servers"], [self.room.url])
        status, metadata = self.room.request("GET", "/.well-known/oauth-authorization-server")
        self.assertEqual((status, metadata["issuer"], metadata["code_challenge_methods_supported"]), (200, self.room.url, ["S256"]))
        self.assertEqual(self.room.request("GET", "/.well-known/oauth-protected-resource/secrets")[0], 404)

    def test_a_name_that_the_machine_has_too_is_the_same_server(self):
        port = self.room.url.rpartition(":")[2]
        request = urllib.request.Request(f"http://localhost:{port}/.well-known/oauth-protected-resource/mcp")
        found = json.loads(urllib.request.urlopen(request, timeout=20).read())
        self.assertEqual(found["resource"], f"http://localhost:{port}/mcp")
        (status, tokens), _ = self.connect(self.client(), resource=found["resource"])
        self.assertEqual(status, 200, tokens)
        self.assertEqual(self.call(tokens["access_token"])[0], 200)


class Attacks(OAuthServer):
    def test_code_replay(self):
        (status, tokens), redeemed = self.connect(self.client())
        self.assertEqual((status, self.call(tokens["access_token"])[0]), (200, 200))
        status, again = self.token(**redeemed)
        self.assertEqual((status, again["error"]), (400, "invalid_grant"))
        self.assertEqual(self.call(tokens["access_token"])[0], 401, "what the code gave has ended")

    def test_stolen_refresh_token(self):
        client = self.client()
        (_, tokens), _ = self.connect(client)
        renew = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": client}
        status, second = self.token(**renew)
        self.assertEqual(status, 200, second)
        status, stolen = self.token(**renew)
        self.assertEqual((status, stolen["error"]), (400, "invalid_grant"))
        self.assertEqual(self.call(second["access_token"])[0], 401)
        self.assertEqual(self.token(**{**renew, "refresh_token": second["refresh_token"]})[0], 400)

    def test_redirect_mismatch(self):
        client = self.client("https://app.example/callback")
        browser = Browser(self.room.url)
        for uri in ("https://evil.example/callback", "https://app.example/callback/x", "https://app.example.evil.example/callback"):
            status, target = browser.go(self.request(client, redirect_uri=uri)[0])
            self.assertEqual((status, target), (400, None), uri)

    def test_mixed_up_issuer(self):
        client = self.client()
        url, _ = self.request(client)
        for answer in ("yes", "no"):
            back = urllib.parse.parse_qs(urllib.parse.urlsplit(Browser(self.room.url).authorize(url, "ada", answer)).query)
            self.assertEqual(back["iss"], [self.room.url])
        url, _ = self.request(client, response_type="token")
        _, target = Browser(self.room.url).go(url)
        self.assertIn(urllib.parse.urlencode({"iss": self.room.url}), target)

    def test_wrong_audience(self):
        (status, tokens), _ = self.connect(self.client(), resource=f"{self.room.url}/mcp/services/time")
        self.assertEqual(status, 200, tokens)
        self.assertEqual(self.call(tokens["access_token"])[0], 401, "the token is for a service's endpoint")
        self.assertEqual(self.call(tokens["access_token"], "/mcp/services/time")[0], 404, "which there is not, but that is said to who may know")
        self.assertEqual(self.room.request("GET", "/jobs", key=tokens["access_token"])[0], 401)
        url, _ = self.request(self.client(), resource="https://other.example/mcp")
        _, target = Browser(self.room.url).go(url)
        self.assertIn("error=invalid_target", target)

    def test_consent_csrf_and_clickjacking(self):
        client = self.client()
        browser, other = Browser(self.room.url), Browser(self.room.url)
        url, _ = self.request(client)
        for one, name in ((browser, "ada"), (other, "eve")):
            self.assertIn("code=", one.authorize(url, name))
        browser.go(url)
        self.assertEqual(browser.headers["X-Frame-Options"], "DENY")
        self.assertIn("frame-ancestors 'none'", browser.headers["Content-Security-Policy"])
        self.assertIn("ada", browser.page)
        fields = {**browser.fields(), "answer": "yes"}
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
            self.assertEqual(browser.go("/oauth/authorize", fields, **headers), (403, None))
        # A page of the attacker's own session, sent by the victim's browser.
        other.go(url)
        theirs = {**other.fields(), "answer": "yes"}
        self.assertEqual(browser.go("/oauth/authorize", theirs), (403, None))
        status, target = browser.go("/oauth/authorize", fields)
        self.assertEqual((status, "code=" in target), (303, True))
        self.assertEqual(browser.go("/oauth/authorize", fields), (403, None), "the page was answered")
        # Nothing goes back to a client without an answer, however often it asks.
        self.assertEqual(browser.go(url), (200, None))

    def test_cimd_pointing_inwards(self):
        guarded = Room(environment={"OPSROOM__EGRESS__CA_FILE": str(self.documents.certificate)})
        with guarded:
            made = guarded.operation("create-user", "--username", "ada", "--email", "ada@example.com")
            guarded.request("POST", "/auth/password/reset", {"token": made["invitation"], "password": PASSWORD})
            browser = Browser(guarded.url)
            browser.go("/login", {"next": "/account", "username": "ada", "password": PASSWORD})
            before = len(self.documents.asked)
            inwards = self.documents.put("/inwards.json", redirect_uris=["http://127.0.0.1/callback"])
            for url in (inwards, inwards.replace("localhost", "127.0.0.1"), "https://169.254.169.254/latest/meta-data"):
                query = urllib.parse.urlsplit(self.request(url)[0]).query
                status, target = browser.go(f"/oauth/authorize?{query}")
                self.assertEqual((status, target), (400, None), browser.page)
                self.assertIn("may not reach", browser.page)
            self.assertEqual(len(self.documents.asked), before, "nothing was asked for")

    def test_a_stranger_makes_us_fetch_nothing(self):
        url = self.documents.put("/quiet.json", redirect_uris=["http://127.0.0.1/callback"])
        status, target = Browser(self.room.url).go(self.request(url)[0])
        self.assertEqual((status, target.startswith("/login?next=")), (303, True))
        self.assertNotIn("/quiet.json", self.documents.asked)

    def test_a_document_of_another_client_is_refused(self):
        browser = Browser(self.room.url)
        browser.go("/login", {"next": "/account", "username": "ada", "password": PASSWORD})
        for path, document in {
            "/other.json": {"client_id": "https://app.example/client.json", "redirect_uris": ["http://127.0.0.1/callback"]},
            "/secret.json": {"client_secret": "x", "redirect_uris": ["http://127.0.0.1/callback"]},
            "/none.json": {},
            "/huge.json": {"redirect_uris": ["http://127.0.0.1/callback"], "x": "x" * 100_000},
        }.items():
            url = self.documents.put(path, **document)
            self.assertEqual(browser.go(self.request(url)[0])[0], 400, path)

    def test_registration_flood(self):
        body = {"client_name": "Flood", "redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none"}
        statuses = [self.room.request("POST", "/oauth/register", body)[0] for _ in range(12)]
        self.assertIn(429, statuses)
        self.assertEqual(self.room.request("POST", "/oauth/register", {"redirect_uris": ["javascript:alert(1)"]})[0], 429)
        closed = Room()
        with closed:
            self.assertEqual(closed.request("POST", "/oauth/register", body)[0], 400)

    def test_a_person_gives_less_than_is_asked(self):
        client = self.client()
        url, verifier = self.request(client, scope="*:read *:write")
        target = Browser(self.room.url).authorize(url, "ada", without=("s1",))
        code = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))["code"]
        _, tokens = self.token(grant_type="authorization_code", code=code, redirect_uri="http://127.0.0.1:1/callback", code_verifier=verifier, client_id=client)
        self.assertEqual(tokens["scope"], "*:read")
        status, answer = self.call(tokens["access_token"], name="create_schedule")
        self.assertEqual((status, answer["error"]["code"]), (200, -32602), "it is not there for this client")


if __name__ == "__main__":
    unittest.main()
