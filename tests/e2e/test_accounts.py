"""Accounts and secrets as a person meets them: the pages in a browser without scripts, the same by REST, real
mail to a server of the test's own; and no secret value anywhere afterwards."""

import base64
import hashlib
import hmac
import re
import socketserver
import struct
import threading
import time
import unittest

from playwright.sync_api import sync_playwright
from room import Room

FIRST = "correct horse battery"
SECOND = "another horse entirely"
THIRD = "a third and last horse"


class Mailbox(socketserver.ThreadingTCPServer):
    """Takes mail and keeps it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        self.mails = []
        super().__init__(("127.0.0.1", 0), Conversation)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def wait(self, subject, since=0):
        """The text of the next mail with these words in its subject, and how many there are by then."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for number, (head, text) in enumerate(self.mails[since:], since):
                if subject in head:
                    return text, number + 1
            time.sleep(0.1)
        raise AssertionError(f"no mail {subject!r} among {[head for head, _ in self.mails]}")


class Conversation(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda text: self.wfile.write(text.encode() + b"\r\n")
        say("220 test")
        while line := self.rfile.readline().decode().strip():
            if line == "DATA":
                say("354 go on")
                lines = []
                while (part := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                    lines.append(part)
                head, _, body = "\n".join(lines).partition("\n\n")
                subject = base64.b64decode(re.search(r"Subject: =\?utf-8\?B\?(.*?)\?=", head).group(1)).decode()
                self.server.mails.append((subject, base64.b64decode(body).decode()))
                say("250 taken")
            elif line == "QUIT":
                say("221 bye")
                return
            else:
                say("250 fine")


def code(seed, at=None):
    """RFC 6238."""
    step = int((at or time.time()) // 30)
    tag = hmac.new(base64.b32decode(seed), struct.pack(">Q", step), hashlib.sha1).digest()
    offset = tag[-1] & 15
    return f"{(struct.unpack('>I', tag[offset:offset + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"


def fresh_code(seed, used):
    """A code that was not used yet; each is shown for half a minute."""
    while code(seed) in used:
        time.sleep(0.5)
    used.add(code(seed))
    return code(seed)


def link(text):
    return re.search(r"http\S+", text).group()


class Accounts(unittest.TestCase):
    def setUp(self):
        self.mailbox = Mailbox()
        self.addCleanup(self.mailbox.server_close)
        self.addCleanup(self.mailbox.shutdown)
        smtp = {"HOST": "127.0.0.1", "PORT": str(self.mailbox.server_address[1]), "SECURITY": "none", "FROM": "ops@example.com"}
        environment = {f"OPSROOM__NOTIFICATIONS__SMTP__{name}": value for name, value in smtp.items()}
        environment["OPSROOM__EGRESS__ALLOW_ADDRESSES"] = "127.0.0.1"
        environment["OPSROOM__ACCOUNTS__SIGNUP"] = "true"
        self.room = Room(environment=environment)
        self.room.__enter__()
        self.addCleanup(lambda: self.room.__exit__(None, None, None))
        self.secrets = self.room.secrets
        self.secrets.update({FIRST, SECOND, THIRD})

    def setup_token(self):
        printed = self.room.command("setup-link").stdout
        token = re.search(r"ops_[0-9a-f]{64}", printed).group()
        self.secrets.add(token)
        return token

    def test_a_walk_through_all_pages_in_a_browser_without_scripts(self):
        room, mails = self.room, self.mailbox
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_context(java_script_enabled=False).new_page()
            page.goto(f"{room.url}/welcome")
            for name, value in [("token", self.setup_token()), ("username", "ada"), ("email", "ada@example.com"), ("password", FIRST)]:
                page.fill(f"[name={name}]", value)
            page.click("button")
            self.assertTrue(page.url.endswith("/login"), page.content())

            def login(password, more="", expected="Your account"):
                page.goto(f"{room.url}/login?next=/account")
                page.fill("[name=username]", "ada")
                page.fill("[name=password]", password)
                page.fill("[name=code]", more)
                page.click("button")
                self.assertIn(expected, page.text_content("body"))

            login("wrong " + FIRST, expected="wrong")
            login(FIRST)
            cookie = page.context.cookies()[0]
            self.secrets.add(cookie["value"])
            self.assertTrue(cookie["httpOnly"] and cookie["sameSite"] == "Lax", cookie)

            def form(name, **fields):
                inside = f"form:has(input[value={name}]) "
                for field, value in fields.items():
                    page.fill(f"{inside}[name={field}]", value)
                page.click(f"{inside}button")
                return page.text_content("body")

            self.assertIn("changed", form("change_password", password=FIRST, new_password=SECOND))
            form("change_email", password=SECOND, email="ada@example.com")
            text, seen = mails.wait("Verify your address")
            page.goto(link(text))
            self.secrets.add(link(text).rpartition("=")[2])
            page.click("button")
            self.assertIn("verified", page.text_content("body"))

            page.goto(f"{room.url}/account")
            form("enable_two_factor", password=SECOND)
            seed = page.text_content("[role=status] code")
            used = set()
            form("confirm_two_factor", code=fresh_code(seed, used))
            told = page.text_content("[role=status]")
            recovery = re.findall(r"\b[a-z0-9]{5}-[a-z0-9]{5}\b", told)
            self.assertEqual(len(recovery), 10, told)
            self.secrets.update([seed, *recovery])
            page.click("form[action='/logout'] button")
            page.goto(f"{room.url}/account")
            self.assertIn("/login", page.url)

            page.click("text=Forgotten password")
            page.fill("[name=email]", "ada@example.com")
            page.click("button")
            text, _ = mails.wait("Set a new password", seen)
            page.goto(link(text))
            self.secrets.add(link(text).rpartition("=")[2])
            page.fill("[name=password]", THIRD)
            page.click("button")
            login(THIRD, expected="second factor")
            login(THIRD, fresh_code(seed, used))
            self.secrets.add(page.context.cookies()[0]["value"])
            login(THIRD, recovery[0])
            self.secrets.add(page.context.cookies()[0]["value"])
            page.goto(f"{room.url}/account")
            before = page.text_content("ul")
            page.click("li:last-child button")
            self.assertNotEqual(page.text_content("ul"), before)
            form("disable_two_factor", password=THIRD)
            self.assertIn("Set up a second factor", page.text_content("body"))
            browser.close()
        self.room.nowhere()

    def test_the_same_by_rest(self):
        room, mails = self.room, self.mailbox

        def call(method, path, body=None, key=None, status=200):
            got, answer = room.request(method, path, body, key)
            self.assertEqual(got, status, answer)
            return answer

        def login(password, status=200, **more):
            answer = call("POST", "/auth/login", {"username": "ada", "password": password, **more}, status=status)
            if status == 200:
                self.assertEqual(set(answer), {"access_token", "token_type", "expires_in", "user"})
                self.secrets.add(answer["access_token"])
                return answer["access_token"]

        setup = {"token": self.setup_token(), "username": "ada", "email": "ada@example.com", "password": FIRST}
        call("POST", "/auth/setup", setup)
        call("POST", "/auth/setup", setup, status=401)
        login("wrong " + FIRST, status=401)
        key = login(FIRST)
        self.assertEqual(call("GET", "/auth/profile", key=key)["username"], "ada")
        call("PUT", "/auth/profile", {"full_name": "Ada"}, key)
        call("POST", "/auth/password", {"password": FIRST, "new_password": SECOND}, key)
        call("POST", "/auth/email", {"password": SECOND, "email": "ada@example.com"}, key)
        text, seen = mails.wait("Verify your address")
        token = link(text).rpartition("=")[2]
        self.secrets.add(token)
        call("POST", "/auth/email/verify", {"token": token})
        self.assertTrue(call("GET", "/auth/profile", key=key)["is_verified"])
        seed = call("POST", "/auth/two-factor", {"password": SECOND}, key)["secret"]
        used = set()
        codes = call("POST", "/auth/two-factor/confirm", {"code": fresh_code(seed, used)}, key)["recovery_codes"]
        self.secrets.update([seed, *codes])
        call("POST", "/auth/password/forgotten", {"email": "ada@example.com"})
        text, _ = mails.wait("Set a new password", seen)
        token = link(text).rpartition("=")[2]
        self.secrets.add(token)
        call("POST", "/auth/password/reset", {"token": token, "password": THIRD})
        call("GET", "/auth/profile", key=key, status=401)
        login(THIRD, status=401)
        key = login(THIRD, two_factor_code=fresh_code(seed, used))
        made = call("POST", "/users", {"username": "bob", "email": "bob@example.com", "role": "operator"}, key)
        self.secrets.add(made["invitation"])
        call("POST", "/secrets", {"path": "db", "fields": {"user": "ops", "password": "wH4t-ever it/takes"}}, key)
        self.secrets.add("wH4t-ever it/takes")
        given = call("GET", "/secrets/db", key=key)
        self.assertEqual(given["fields"]["password"], "wH4t-ever it/takes")
        self.assertTrue(call("POST", "/auth/logout", {"everywhere": True}, key)["message"])
        call("GET", "/auth/profile", key=key, status=401)
        self.room.nowhere()

    def test_v3_5_a_cookie_counts_only_for_pages_of_ours_and_a_reset_link_ignores_the_host(self):
        room = self.room
        setup = {"token": self.setup_token(), "username": "ada", "email": "ada@example.com", "password": FIRST}
        room.request("POST", "/auth/setup", setup)
        _, answer = room.request("POST", "/auth/login", {"username": "ada", "password": FIRST})
        cookie = {"Cookie": f"opsroom={answer['access_token']}"}
        elsewhere = [{}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
        for headers in elsewhere:
            status, _ = room.request("GET", "/auth/profile", headers={**cookie, **headers})
            self.assertEqual(status, 401, headers)
        status, _ = room.request("GET", "/auth/profile", headers={**cookie, "Sec-Fetch-Site": "same-origin"})
        self.assertEqual(status, 200)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for headers in elsewhere:
            status, _ = room.request("POST", "/account", b"do=end_session", headers={**cookie, **form, **headers})
            self.assertEqual(status, 403, headers)
        status, _ = room.request("POST", "/auth/password/forgotten", {"email": "ada@example.com"}, headers={"Host": "evil.example"})
        self.assertEqual(status, 421)
        room.request("POST", "/auth/password/forgotten", {"email": "ada@example.com"}, headers={"X-Forwarded-Host": "evil.example"})
        text, _ = self.mailbox.wait("Set a new password")
        self.assertTrue(link(text).startswith(room.url), link(text))


if __name__ == "__main__":
    unittest.main()
