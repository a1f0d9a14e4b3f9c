"""Alerts as their senders and receivers meet them: a real Prometheus and a real Alertmanager fire and resolve
through us to local receivers that check each provider's request; a crash between the answer and the delivery;
the routing beside amtool's; forged and broken deliveries; an agent that asks and answers."""

import asyncio
import base64
import concurrent.futures
import hashlib
import hmac
import http.server
import json
import pathlib
import shutil
import signal
import socketserver
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from room import Room
from test_planning import Service, config, free_port, prometheus

GITHUB_SECRET = "It's a Secret to Everybody"
DINGTALK_SECRET = "this is secret"


class Provider:
    """A provider's endpoint: keeps every request, and answers as `answers` says, the last one forever."""

    def __init__(self, answers, port=0):
        self.seen = []
        self.answers = list(answers)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.seen.append((time.time(), self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, text = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def bodies(self):
        return [json.loads(body) for _, _, _, body in self.seen]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Mail:
    """A server for mail that takes everything."""

    def __init__(self, port=0):
        self.seen = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                say = lambda text: self.wfile.write(text.encode() + b"\r\n")
                say("220 here")
                told, data = [], False
                while line := self.rfile.readline().decode():
                    told.append(line)
                    if data:
                        if line == ".\r\n":
                            data = False
                            outer.seen.append("".join(told))
                            say("250 taken")
                    elif line.upper().startswith("DATA"):
                        data = True
                        say("354 go on")
                    elif line.upper().startswith("QUIT"):
                        say("221 bye")
                        return
                    else:
                        say("250 ok")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self):
        taken, self.seen[:] = list(self.seen), []
        return taken

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def install_alertmanager():
    """Debian's Alertmanager, with its amtool."""
    if not shutil.which("prometheus-alertmanager"):
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "prometheus-alertmanager"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def alertmanager(folder, text):
    """Alertmanager with this configuration."""
    install_alertmanager()
    folder.mkdir(exist_ok=True)
    folder.joinpath("alertmanager.yml").write_text(text)
    port = free_port()
    command = [
        "prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    return url, Service(command, url + "/-/ready", folder / "alertmanager.log")


def until(what, seconds=60):
    """Waits for what `what` answers."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen in time")
        time.sleep(0.1)
    return found


def delivery(*alerts):
    """A delivery of Alertmanager: of (name, status, labels)."""
    one = lambda name, status, labels: {
        "status": status, "labels": {"alertname": name, "severity": "critical", **labels},
        "annotations": {"summary": name}, "startsAt": "2026-01-05T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
    }  # fmt: skip
    return {"version": "4", "status": "firing", "alerts": [one(*alert) for alert in alerts]}


def basic_settings(*ports, routing="", more=""):
    allowed = ", ".join(map(str, ports))
    return f"egress:\n  allow_addresses: [127.0.0.1]\n  ports: [{allowed}]\n{more}alerts:\n  routing:\n{routing}"


class Alerts(unittest.TestCase):
    def room(self, settings):
        """A room with these settings, and an administrator's key."""
        room = Room()
        room.start()
        self.addCleanup(shutil.rmtree, room.folder, True)
        self.addCleanup(lambda: room.stop())
        room.stop()
        config(room, settings)
        room.start()
        return room, room.key()

    def receiver(self, room, key, name, sender, **more):
        status, made = room.request("POST", "/receivers", {"name": name, "sender": sender, **more}, key=key)
        self.assertEqual(status, 200, made)
        return made["secret"]

    def channel(self, room, key, name, **more):
        status, made = room.request("POST", "/channels", {"name": name, **more}, key=key)
        self.assertEqual(status, 200, made)
        self.assertNotIn("s3cret", json.dumps(made))

    def test_prometheus_and_alertmanager_fire_and_resolve_through_us(self):
        ok = {"dingtalk": '{"errcode":0,"errmsg":"ok"}', "wecom": '{"errcode":0}', "feishu": '{"code":0}', "slack": "ok", "discord": "", "webhook": "{}"}
        providers = {kind: Provider([(200, text)]) for kind, text in ok.items()}
        mail = Mail()
        for server in [*providers.values(), mail]:
            self.addCleanup(server.stop)
        routes = "".join(f"    - {{channel: {kind}, matchers: ['alertname=\"Down\"'], continue: true}}\n" for kind in [*ok, "mail"])
        smtp = f"notifications:\n  smtp: {{host: 127.0.0.1, port: {mail.port}, security: none, from: ops@example.com}}\n"
        ports = [mail.port, *(provider.port for provider in providers.values())]
        room, key = self.room(basic_settings(
            *ports, more=smtp, routing="    group_wait_seconds: 0\n    group_interval_seconds: 1\n    routes:\n" + routes,
        ))  # fmt: skip
        for kind, provider in providers.items():
            secret = {"dingtalk": DINGTALK_SECRET, "feishu": "demo", "webhook": "our secret"}.get(kind, "")
            path = {"dingtalk": "/robot/send?access_token=s3cret", "wecom": "/cgi-bin/webhook/send?key=s3cret"}.get(kind, "/hook/s3cret")
            self.channel(room, key, kind, kind=kind, url=provider.url + path, secret=secret)
        self.channel(room, key, "mail", kind="email", to=["oncall@example.com"])
        token = self.receiver(room, key, "am", "alertmanager")
        folder = room.folder / "alerting"
        url, manager = alertmanager(folder, (
            "route: {receiver: opsroom, group_wait: 0s, group_interval: 1s, repeat_interval: 1h, group_by: ['...']}\n"
            f"receivers:\n- name: opsroom\n  webhook_configs:\n  - url: {room.url}/webhooks/am\n    send_resolved: true\n"
            f"    http_config: {{authorization: {{credentials: {token}}}}}\n"
        ))  # fmt: skip
        self.addCleanup(manager.stop)
        folder.joinpath("rules.yml").write_text(
            "groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: Down\n    expr: up{job=\"target\"} == 0\n"
            "    labels: {severity: critical}\n    annotations: {summary: 'the target is down', description: 'nobody answers'}\n"
        )
        watched = free_port()
        prom, server = prometheus(folder, (
            f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{folder}/rules.yml]\n"
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{url.removeprefix('http://')}']}}]}}]}}\n"
            f"scrape_configs:\n- job_name: target\n  static_configs: [{{targets: ['127.0.0.1:{watched}']}}]\n"
        ))  # fmt: skip
        self.addCleanup(server.stop)
        until(lambda: all(provider.seen for provider in providers.values()) and mail.seen)
        self.check_requests(providers, mail)
        fired = {kind: len(provider.seen) for kind, provider in providers.items()}
        self.assertEqual(set(fired.values()), {1}, fired)

        class Up(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"up_again 1\n")

            def log_message(self, *_):
                pass

        back = http.server.ThreadingHTTPServer(("127.0.0.1", watched), Up)
        threading.Thread(target=back.serve_forever, daemon=True).start()
        self.addCleanup(back.server_close)
        self.addCleanup(back.shutdown)
        until(lambda: all(len(provider.seen) > 1 for provider in providers.values()) and len(mail.seen) > 1)
        self.assertTrue(providers["webhook"].bodies()[1]["title"].startswith("resolved (1)"))
        self.assertEqual(providers["webhook"].bodies()[1]["level"], "resolved")
        _, listed = room.request("GET", "/alerts", key=key)
        self.assertEqual([alert["status"] for alert in listed["items"]], ["resolved"])
        status, told = room.request("GET", f"/alerts/{listed['items'][0]['id']}/explanation", key=key)
        self.assertEqual(status, 200, told)
        self.assertEqual(len(told["deliveries"]), 14, told["summary"])
        self.assertEqual({it["notification"]["state"] for it in told["deliveries"]}, {"sent"})
        self.assertNotIn("s3cret", json.dumps(told) + (room.folder / "server.log").read_text())

    def check_requests(self, providers, mail):
        """Each provider's request, recomputed here from its documentation."""
        requests = {kind: (path, headers, json.loads(body)) for kind, provider in providers.items() for _, path, headers, body in provider.seen[:1]}
        path, _, body = requests["dingtalk"]
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(path).query))
        text = f"{query['timestamp']}\n{DINGTALK_SECRET}".encode()
        sign = base64.b64encode(hmac.new(DINGTALK_SECRET.encode(), text, hashlib.sha256).digest()).decode()
        self.assertEqual((query["access_token"], query["sign"]), ("s3cret", sign))
        self.assertLess(abs(int(query["timestamp"]) / 1000 - time.time()), 60)
        self.assertEqual(body["msgtype"], "markdown")
        self.assertEqual(body["at"], {"atMobiles": [], "atUserIds": [], "isAtAll": False})
        self.assertIn("the target is down", body["markdown"]["title"])
        path, _, body = requests["wecom"]
        self.assertEqual(path, "/cgi-bin/webhook/send?key=s3cret")
        self.assertEqual(body["msgtype"], "markdown")
        self.assertIn('<font color="warning">', body["markdown"]["content"])
        _, _, body = requests["feishu"]
        key = f"{body['timestamp']}\ndemo".encode()
        self.assertEqual(body["sign"], base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode())
        self.assertEqual((body["msg_type"], body["card"]["header"]["template"]), ("interactive", "red"))
        _, _, body = requests["slack"]
        self.assertIn("the target is down", body["text"])
        self.assertEqual({block["type"] for block in body["blocks"]}, {"section"})
        _, _, body = requests["discord"]
        self.assertEqual(body["allowed_mentions"], {"parse": []})
        self.assertIn("the target is down", body["embeds"][0]["title"])
        _, headers, body = requests["webhook"]
        raw = providers["webhook"].seen[0][3]
        signed = headers["x-opsroom-timestamp"].encode() + b"." + raw
        self.assertEqual(headers["x-opsroom-signature"], "sha256=" + hmac.new(b"our secret", signed, hashlib.sha256).hexdigest())
        self.assertEqual(headers["idempotency-key"], body["id"])
        self.assertIn("RCPT TO:<oncall@example.com>", mail.seen[0])
        self.assertIn("multipart/alternative", mail.seen[0])

    def test_kill_9_between_the_answer_and_the_delivery_loses_nothing_and_repeats_no_confirmed_message(self):
        port = free_port()
        room, key = self.room(basic_settings(port, routing="    channel: hook\n    group_wait_seconds: 0\n    group_by: ['alertname']\n"))
        self.channel(room, key, "hook", url=f"http://127.0.0.1:{port}/hook")
        token = self.receiver(room, key, "am", "alertmanager")
        accepted, self.told = [], []
        for round_number in range(4):
            names = [f"A{round_number}-{n}" for n in range(5)]
            provider = Provider([(200, "{}")], port) if round_number % 2 else None
            for name in names:
                status, _ = room.request("POST", "/webhooks/am", delivery((name, "firing", {})), key=token)
                self.assertEqual(status, 200)
                accepted.append(name)
            time.sleep(0.02 * round_number)
            room.stop(signal.SIGKILL)
            if provider:
                confirmed = [(body["id"], body["title"]) for body in provider.bodies()]
                self.told += confirmed
                provider.stop()
            room.start()
        provider = Provider([(200, "{}")], port)
        self.addCleanup(provider.stop)
        sent = lambda: [it for it in room.request("GET", "/notifications?limit=200", key=key)[1]["items"] if it["state"] != "sent"]
        everything = lambda: {title.split(": ", 1)[1] for _, title in self.told + [(b["id"], b["title"]) for b in provider.bodies()]}
        until(lambda: everything() >= set(accepted) and not sent(), 90)
        _, listed = room.request("GET", "/notifications?limit=200", key=key)
        self.assertEqual(len(listed["items"]), len(accepted))
        # What came twice was on its way when the server died, and is on record as such.
        ids = [id for id, _ in self.told] + [body["id"] for body in provider.bodies()]
        for twice in {id for id in ids if ids.count(id) > 1}:
            _, story = room.request("GET", f"/notifications/{twice}", key=key)
            self.assertIn("unknown", [attempt["outcome"] for attempt in story["attempts"]], story)

    def test_the_whole_story_of_an_alert_is_told(self):
        provider = Provider([(500, ""), (200, "{}")])
        second = Provider([(200, "{}")])
        self.addCleanup(provider.stop)
        self.addCleanup(second.stop)
        routing = "    channel: hook\n    group_wait_seconds: 1\n    escalate: [{after_seconds: 2, channel: 'oncall:primary'}]\n"
        rotation = "  rotations:\n    primary: {starts: '2026-01-01T00:00', days: 7, channels: [second]}\n"
        room, key = self.room(basic_settings(provider.port, second.port, routing=routing + rotation))
        self.channel(room, key, "hook", url=provider.url)
        self.channel(room, key, "second", url=second.url)
        token = self.receiver(room, key, "am", "alertmanager")
        silence = {"matchers": ['host="b"'], "seconds": 60, "comment": "works on b"}
        room.request("POST", "/silences", silence, key=key)
        room.request("POST", "/webhooks/am", delivery(("Down", "firing", {"host": "a"}), ("Down", "firing", {"host": "b"})), key=token)
        escalated = until(lambda: second.bodies())
        self.assertEqual(len(second.bodies()), 1)
        links = {action["name"]: action["url"] for action in escalated[0]["actions"]}
        path = urllib.parse.urlsplit(links["Acknowledge"]).path
        for _ in range(3):
            status, page = room.request("GET", path)
            self.assertEqual(status, 200, page)
            self.assertIn("Down", page)
        state = lambda host: next(it for it in room.request("GET", "/alerts", key=key)[1]["items"] if it["labels"]["host"] == host)
        self.assertEqual((state("a")["status"], state("b")["status"]), ("firing", "silenced"))
        self.assertEqual(room.request("POST", path, b"")[0], 200)
        self.assertEqual(state("a")["status"], "acknowledged")
        self.assertEqual(room.request("POST", path, b"")[0], 404, "a link works once")
        explained = lambda: room.request("GET", f"/alerts/{state('a')['id']}/explanation", key=key)[1]
        until(lambda: all(it["notification"]["state"] == "sent" for it in explained()["deliveries"]))
        told = explained()
        whats = [line["what"] for line in told["history"]]
        self.assertEqual(whats[:3] + whats[3:4], ["received", "told", "told", "acknowledged"], told["history"])
        first = told["deliveries"][0]
        self.assertEqual([attempt["outcome"] for attempt in first["attempts"]], ["later", "sent"], first)
        self.assertIn("on call", told["history"][2]["words"])
        self.assertTrue(told["alert"]["handler"].startswith("link:"))
        _, other = room.request("GET", f"/alerts/{state('b')['id']}/explanation", key=key)
        self.assertIn("works on b", other["summary"])
        _, audit = room.request("GET", "/audit?operation=acknowledge_alert", key=key)
        self.assertIn(told["alert"]["handler"], json.dumps(audit))

    def test_forged_and_broken_deliveries_are_refused_and_leave_a_counter(self):
        room, key = self.room(basic_settings(1, routing="    channel: none\n"))
        self.receiver(room, key, "gh", "github", secret=GITHUB_SECRET)
        token = self.receiver(room, key, "path", "tencent_monitor")
        body = b"Hello, World!"
        published = {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
        # Believed, and then not JSON.
        self.assertEqual(room.request("POST", "/webhooks/gh", body, headers=published)[0], 400)
        self.assertEqual(room.request("POST", "/webhooks/gh", b"Hello, World?", headers=published)[0], 401)
        self.assertEqual(room.request("POST", "/webhooks/gh", body)[0], 401)
        self.assertEqual(room.request("POST", "/webhooks/nobody", body, headers=published)[0], 401)
        self.assertEqual(room.request("POST", "/webhooks/path/wrong", b"{}")[0], 401)
        status, answer = room.request("POST", f"/webhooks/path/{token}", {"sessionId": "s-1", "alarmStatus": "1"})
        self.assertEqual((status, answer), (200, {"sessionId": "s-1", "retCode": 0}))
        packed = {**published, "Content-Encoding": "gzip"}
        self.assertEqual(room.request("POST", "/webhooks/gh", b"\x1f\x8b", headers=packed)[0], 415)
        self.assertEqual(room.request("POST", f"/webhooks/path/{token}", b" " * (9 << 20))[0], 413)
        counts = lambda: {it["name"]: (it["accepted"], it["refused"]) for it in room.request("GET", "/receivers", key=key)[1]["items"]}
        until(lambda: counts() == {"gh": (0, 2), "path": (1, 1)}, 20)
        self.assertNotIn(token, (room.folder / "server.log").read_text())

    def test_the_routing_agrees_with_amtool(self):
        install_alertmanager()
        folder = pathlib.Path(self.room_folder())
        folder.joinpath("am.yml").write_text(
            "route:\n  receiver: base\n  routes:\n"
            "  - {receiver: db, matchers: ['team=\"db\"'], continue: true}\n"
            "  - receiver: oncall\n    matchers: ['severity=~\"critical|page\"', 'env!~\"dev.*\"']\n"
            "    routes:\n    - {receiver: night, matchers: ['hour=~\"0[0-6]\"']}\n    - {receiver: web, matchers: ['team=\"web\"']}\n"
            "  - {receiver: rest, matchers: ['team!=\"\"']}\n"
            "receivers: [{name: base}, {name: db}, {name: oncall}, {name: night}, {name: web}, {name: rest}]\n"
        )
        routing = {"channel": "base", "routes": [
            {"channel": "db", "matchers": ['team="db"'], "continue": True},
            {"channel": "oncall", "matchers": ['severity=~"critical|page"', 'env!~"dev.*"'], "routes": [
                {"channel": "night", "matchers": ['hour=~"0[0-6]"']}, {"channel": "web", "matchers": ['team="web"']},
            ]},
            {"channel": "rest", "matchers": ['team!=""']},
        ]}  # fmt: skip
        room, key = self.room(basic_settings(1, routing="    channel: none\n"))
        sets = [
            {name: value for name, value in (("team", team), ("severity", severity), ("env", env), ("hour", hour)) if value}
            for team in ("", "db", "web", "dbx", "ops") for severity in ("", "critical", "page", "pages", "info")
            for env in ("", "dev", "dev-2", "prod", "xdev") for hour in ("", "00", "06", "07", "060", "6", "05", "23")
        ]  # fmt: skip
        self.assertEqual(len(sets), 1000)
        begun = time.monotonic()
        status, told = room.request("POST", "/routing/simulate", {"routing": routing, "labels": sets * 10, "limit": 1000}, key=key)
        took = time.monotonic() - begun
        self.assertEqual((status, told["alerts"]), (200, 10_000), told)
        print(f"simulate_routing: 10,000 alerts in {took:.2f} s")

        def amtool(labels):
            command = ["amtool", "config", "routes", "test", f"--config.file={folder}/am.yml", *(f"{k}={v}" for k, v in labels.items())]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(",")

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            theirs = list(pool.map(amtool, sets))
        ours = [[decision["channel"] for decision in decisions] for decisions in told["decisions"]]
        differing = [(labels, us, them) for labels, us, them in zip(sets, ours, theirs) if us != them]
        self.assertEqual(differing[:5], [])

    def room_folder(self):
        folder = tempfile.mkdtemp(prefix="amtool-")
        self.addCleanup(shutil.rmtree, folder, True)
        return folder

    def test_an_agent_asks_what_is_firing_and_why_and_takes_it(self):
        room, key = self.room(basic_settings(1, routing="    channel: none\n"))
        token = self.receiver(room, key, "am", "alertmanager")
        room.request("POST", "/webhooks/am", delivery(("Down", "firing", {"host": "a"})), key=token)
        until(lambda: room.request("GET", "/alerts", key=key)[1]["items"])

        async def agent():
            headers = {"Authorization": f"Bearer {room.key('operator')}"}
            async with Client(StreamableHttpTransport(room.url + "/mcp", headers=headers)) as client:
                firing = (await client.call_tool("list_alerts", {"status": "firing"})).structured_content["items"]
                until_told = {}
                for _ in range(100):
                    until_told = (await client.call_tool("explain_alert", {"id": firing[0]["id"]})).structured_content
                    if until_told["history"][1:]:
                        break
                    await asyncio.sleep(0.2)
                taken = (await client.call_tool("acknowledge_alert", {"id": firing[0]["id"], "note": "on it"})).structured_content
                return firing, until_told, taken

        firing, told, taken = asyncio.run(agent())
        self.assertEqual([alert["title"] for alert in firing], ["Down"])
        self.assertIn("`none`", told["summary"])
        self.assertEqual(taken["status"], "acknowledged")
        _, audit = room.request("GET", "/audit?operation=acknowledge_alert", key=key)
        entry = audit["items"][0]
        self.assertEqual((entry["face"], taken["handler"] in json.dumps(entry)), ("mcp", True), entry)

    def test_two_hundred_deliveries_of_fifty(self):
        """How many are received; the figure that counts is that of `bench`."""
        room, key = self.room(basic_settings(1, routing="    channel: none\n    group_wait_seconds: 0\n"))
        token = self.receiver(room, key, "am", "alertmanager")

        def send(n):
            body = delivery(*((f"A{n // 20}", "firing", {"host": f"h{n}-{i}"}) for i in range(50)))
            begun = time.monotonic()
            status, _ = room.request("POST", "/webhooks/am", body, key=token)
            return status, time.monotonic() - begun

        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(200)))
        took = time.monotonic() - begun
        self.assertEqual({status for status, _ in answers}, {200})
        slow = sorted(seconds for _, seconds in answers)[-2]
        print(f"received 10,000 alerts in {took:.1f} s, p99 {slow * 1000:.0f} ms (not an optimised build)")
        count = lambda: room.request("GET", "/receivers", key=key)[1]["items"][0]["accepted"]
        until(lambda: count() == 200)
        states = lambda: {it["state"] for it in room.request("GET", "/receivers/am/deliveries?limit=100", key=key)[1]["items"]}
        until(lambda: states() == {"read"}, 90)

    def test_what_one_channel_refuses_another_is_told(self):
        broken = Provider([(404, "")])
        instead = Provider([(200, "{}")])
        for provider in (broken, instead):
            self.addCleanup(provider.stop)
        room, key = self.room(basic_settings(broken.port, instead.port, routing="    channel: none\n"))
        self.channel(room, key, "instead", url=instead.url)
        self.channel(room, key, "broken", url=broken.url, fallback="instead")
        room.request("POST", "/notifications", {"channel": "broken", "title": "lost?"}, key=key)
        until(lambda: instead.seen)
        self.assertEqual(instead.bodies()[0]["title"], "lost?")


if __name__ == "__main__":
    unittest.main()
