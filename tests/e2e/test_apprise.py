"""What Apprise sends and what we send for the same URLs: both talk to the providers' own names, over TLS, to a server
that plays all of them in a network of its own."""

import base64
import email
import email.policy
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
TITLE, TEXT = "disk full on db-1", "91 % of /var, says the probe"
TOKEN = "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6"

# What each provider answers when it takes a message.
ANSWERS = {
    "oapi.dingtalk.com": (200, '{"errcode":0,"errmsg":"ok"}'),
    "qyapi.weixin.qq.com": (200, '{"errcode":0,"errmsg":"ok"}'),
    "open.feishu.cn": (200, '{"code":0,"msg":"success","data":{},"StatusCode":0}'),
    "open.larksuite.com": (200, '{"code":0,"msg":"success","data":{},"StatusCode":0}'),
    "hooks.slack.com": (200, "ok"),
    "discord.com": (204, ""),
    "hooks.example.com": (200, "{}"),
}
URLS = {
    "dingtalk": f"dingtalk://SECabc0123@{TOKEN}/13800138000",
    "wecombot": "wecombot://693axxx6-7aoc-4bc4-97a0-0ec2sifa5aaa",
    "feishu": "feishu://4a5b6c7d-1111-2222-3333-444455556666",
    "lark": "lark://4a5b6c7d-1111-2222-3333-444455556666",
    "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "discord": "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "jsons": "jsons://hooks.example.com/take/it",
    "mail": "mailto://127.0.0.1:2525?from=ada@example.com&to=bob@example.org,eve@example.org",
}


class Providers:
    """Everybody's server: keeps what comes."""

    def __init__(self, folder):
        self.seen = []
        key, certificate = folder / "key.pem", folder / "cert.pem"
        names = ",".join(f"DNS:{host}" for host in ANSWERS)
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=providers"]
        made += ["-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        self.certificate = certificate
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                host = self.headers["Host"].split(":")[0]
                parts = urllib.parse.urlsplit(self.path)
                outer.seen.append({
                    "host": host, "path": parts.path, "query": dict(urllib.parse.parse_qsl(parts.query)),
                    "type": self.headers["Content-Type"].split(";")[0], "body": json.loads(body),
                })  # fmt: skip
                status, text = ANSWERS[host]
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self):
        taken, self.seen[:] = list(self.seen), []
        return taken


def inside(out):
    """Sends by Apprise and by us; writes what came of both. It runs in a network of its own, where the providers'
    names lead here."""
    import test_alerts
    from room import Room

    with tempfile.TemporaryDirectory() as folder:
        providers = Providers(pathlib.Path(folder))
        mail = test_alerts.Mail(2525)
        os.environ["REQUESTS_CA_BUNDLE"] = str(providers.certificate)
        import apprise

        theirs, ours = {}, {}
        for name, url in URLS.items():
            one = apprise.Apprise()
            sent = one.add(url) and one.notify(title=TITLE, body=TEXT)
            theirs[name] = {"sent": bool(sent), "requests": providers.take(), "mails": mail.take()}
        environment = {
            "OPSROOM__EGRESS__ALLOW_ADDRESSES": '["127.0.0.1"]', "OPSROOM__EGRESS__PORTS": "[443, 2525]",
            "OPSROOM__EGRESS__CA_FILE": str(providers.certificate),
        }  # fmt: skip
        with Room(environment=environment) as room:
            text = "".join(f"{name}={url}\n" for name, url in URLS.items())
            imported = room.request("POST", "/channels/import", {"text": text}, key=room.key())
            for name in URLS:
                message = {"channel": name, "title": TITLE, "text": TEXT}
                status, answer = room.request("POST", "/notifications", message, key=room.key())
                story = lambda: room.request("GET", f"/notifications/{answer['id']}", key=room.key())[1]
                test_alerts.until(lambda: story()["notification"]["state"] != "waiting")
                ours[name] = {"sent": story()["notification"]["state"], "requests": providers.take(), "mails": mail.take()}
        pathlib.Path(out).write_text(json.dumps({"theirs": theirs, "ours": ours, "imported": imported}))


def texts(value):
    """Every text in a body."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


class Apprise(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            hosts, out = pathlib.Path(folder) / "hosts", pathlib.Path(folder) / "out.json"
            hosts.write_text("127.0.0.1 localhost\n" + "".join(f"127.0.0.1 {host}\n" for host in ANSWERS))
            script = f'ip link set lo up && mount --bind {hosts} /etc/hosts && exec "$@"'
            command = ["unshare", "--mount", "--net", "--", "sh", "-c", script, "sh", sys.executable, __file__, str(out)]
            done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120)
            if done.returncode:
                raise AssertionError(done.stdout[-4000:] + done.stderr[-4000:])
            cls.found = json.loads(out.read_text())

    def both(self, name):
        theirs, ours = self.found["theirs"][name], self.found["ours"][name]
        self.assertEqual((theirs["sent"], ours["sent"]), (True, "sent"), (theirs, ours))
        return theirs, ours

    def test_every_url_is_a_channel(self):
        status, imported = self.found["imported"]
        self.assertEqual((status, imported["left_out"]), (200, []), imported)
        self.assertEqual([item["name"] for item in imported["items"]], list(URLS))

    def test_both_ask_the_same_address_and_say_the_same(self):
        for name in URLS:
            if name == "mail":
                continue
            with self.subTest(name):
                theirs, ours = self.both(name)
                self.assertEqual((len(theirs["requests"]), len(ours["requests"])), (1, 1))
                (theirs,), (ours,) = theirs["requests"], ours["requests"]
                # Apprise ends Feishu's address with a slash, which its documentation does not have.
                for part in ("host", "path", "type"):
                    self.assertEqual(theirs[part].rstrip("/"), ours[part], part)
                plain = lambda query: {key: value for key, value in query.items() if key not in ("sign", "timestamp")}
                self.assertEqual(plain(theirs["query"]), plain(ours["query"]))
                for body in (theirs["body"], ours["body"]):
                    said = "\n".join(texts(body))
                    self.assertIn(TITLE, said)
                    self.assertIn(TEXT, said)

    def test_dingtalk_is_signed_and_calls_the_same_people(self):
        theirs, ours = self.both("dingtalk")
        for request in (theirs["requests"][0], ours["requests"][0]):
            stamp = request["query"]["timestamp"]
            signed = hmac.new(b"SECabc0123", f"{stamp}\nSECabc0123".encode(), hashlib.sha256).digest()
            # Apprise encodes it once more than the documentation asks for.
            sign = request["query"]["sign"] if request is ours["requests"][0] else urllib.parse.unquote(request["query"]["sign"])
            self.assertEqual(sign, base64.b64encode(signed).decode())
            self.assertEqual(request["body"]["at"]["atMobiles"], ["13800138000"])

    def test_mail_goes_to_the_same_people(self):
        theirs, ours = self.both("mail")

        def people(mails):
            envelopes = "".join(mails).upper().splitlines()
            # Several mails of one connection are kept with what was said before them.
            return sorted({line.split(":", 1)[1].split(">")[0].strip(" <") for line in envelopes if line.startswith("RCPT TO")})

        self.assertEqual(people(theirs["mails"]), ["BOB@EXAMPLE.ORG", "EVE@EXAMPLE.ORG"])
        self.assertEqual(people(ours["mails"]), people(theirs["mails"]))
        for mails in (theirs["mails"], ours["mails"]):
            raw = re.split(r"(?i)^DATA\r\n", mails[0], maxsplit=1, flags=re.MULTILINE)[1]
            message = email.message_from_string(raw, policy=email.policy.default)
            self.assertIn(TITLE, message["Subject"])
            self.assertIn("ada@example.com", message["From"])
            self.assertIn(TEXT, message.get_body(("plain", "html")).get_content())


if __name__ == "__main__":
    inside(sys.argv[1])
