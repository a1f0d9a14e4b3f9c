"""Dashboards as they are captured: late charts, Prometheus' own graph, a Grafana with and without its renderer, logins,
pages that misbehave or reach inwards, fifty at once, and an agent that sees the picture."""

import asyncio
import base64
import glob
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from pages import COLOURS, MIDDLES, PASSWORD, TOKEN, Canary, Site, pixels
from room import WORK, Room
from test_planning import config, prometheus

SECRETS = {"OPSROOM_SECRET_GRAFANA": TOKEN, "OPSROOM_SECRET_ADA": PASSWORD}
SETTINGS = "egress:\n  allow_addresses: [127.0.0.1]\ndashboards:\n  at_once: 3\n  page_mib: 128\n  traffic_mib: 16\n  idle_seconds: 2\n"


def until(what, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen in time")
        time.sleep(0.1)
    return found


def browsers():
    """The processes of browsers that a room has started."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if b"--user-data-dir=" in (line := pathlib.Path(path).read_bytes()) and b"opsroom-browser-" in line:
                found.append(path)
        except OSError:
            pass
    return found


class Dashboards(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.site = Site()
        cls.addClassCleanup(cls.site.stop)
        cls.room = Room(environment=SECRETS)
        asked = f"{{url: '{cls.site.url}/plain?alert', width: 200, height: 100, alert: '{{{{id}}}}'}}"
        rule = f"  - matchers: ['alertname=\"Late\"']\n    operation: capture_dashboard\n    input: {asked}\n"
        config(cls.room, SETTINGS + "alerts:\n  routing: {channel: none}\n  evidence:\n" + rule)
        cls.room.__enter__()
        cls.addClassCleanup(cls.room.__exit__)
        cls.key = cls.room.key()
        login = {"kind": "bearer", "secret": "secret://env/GRAFANA"}
        cls.add("grafana", kind="grafana", login=login)

    @classmethod
    def add(cls, name, **place):
        body = {"name": name, "place": {"url": cls.site.url, **place}}
        status, answer = cls.room.request("POST", "/dashboards/sources", body, key=cls.key)
        assert status == 200, answer

    def capture(self, expected=200, **asked):
        """A capture, or the error that it ends with."""
        status, answer = self.room.request("POST", "/captures", asked, key=self.key)
        self.assertEqual(status, expected, answer)
        return answer if expected == 200 else answer["error"]

    def picture(self, capture, path=None):
        request = urllib.request.Request(self.room.url + (path or capture["picture"]))
        request.add_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
            return answer.read()

    def final(self, png):
        """Every chart is as it is in the end."""
        width, height, at = pixels(png)
        self.assertEqual((width, height), (1000, 500))
        for n, (x, y) in enumerate(MIDDLES):
            for dy in (-65, 0, 65):
                self.assertEqual(at(x, y + dy), COLOURS[n], f"chart {n}")

    def test_twelve_charts_that_load_late_are_final(self):
        first = self.capture(url=f"{self.site.url}/charts?late=900")
        png = self.picture(first)
        self.final(png)
        self.assertEqual((first["sha256"], first["bytes"]), (hashlib.sha256(png).hexdigest(), len(png)))
        self.assertTrue(first["complete"] and first["sandbox"], first)
        self.assertLessEqual({"network", "elements", "timers", "pixels"}, set(first["signals"]))
        self.assertIsNone(first["change"])
        again = self.capture(url=f"{self.site.url}/charts?late=900")
        self.assertEqual((again["change"]["since"], again["change"]["pixels"], again["sha256"]), (first["id"], 0, first["sha256"]))
        colour, COLOURS[4] = COLOURS[4], (250, 1, 2)
        try:
            other = self.capture(url=f"{self.site.url}/charts?late=900")
        finally:
            COLOURS[4] = colour
        left, top = MIDDLES[4][0] - 110, MIDDLES[4][1] - 70
        self.assertEqual((other["change"]["pixels"], other["change"]["area"]), (220 * 140, [left, top, 220, 140]))
        _, _, at = pixels(self.picture(other, f"/captures/{other['id']}/difference"))
        self.assertEqual((at(*MIDDLES[4]), at(*MIDDLES[5]) == COLOURS[5]), ((214, 40, 40), False))
        listed = self.room.request("GET", "/captures?limit=200", key=self.key)[1]["items"]
        self.assertLessEqual({first["id"], again["id"], other["id"]}, {capture["id"] for capture in listed})
        status, _ = self.room.request("DELETE", f"/captures/{other['id']}", key=self.key)
        self.assertEqual(status, 200)
        self.assertEqual(self.room.request("GET", other["picture"], key=self.key)[0], 404)
        viewer = self.room.key("viewer", scopes="logs:*")
        self.assertEqual(self.room.request("GET", first["picture"], key=viewer)[0], 403)
        self.assertEqual(self.room.request("GET", first["picture"])[0], 401)

    def test_the_command_line_writes_the_picture_to_a_file(self):
        file = self.room.folder / "shot.png"
        answer = self.room.operation("capture-dashboard", "--url", f"{self.site.url}/plain", "--width", "300", "--output", str(file))
        width, height, at = pixels(file.read_bytes())
        self.assertEqual((width, height, at(290, 480)), (300, 500, (0x30, 0x60, 0xC0)))
        self.assertEqual(answer["title"], "Plain")
        again = self.room.folder / "again.png"
        self.room.operation("get-capture", answer["id"], "--output", str(again))
        self.assertEqual(again.read_bytes(), file.read_bytes())

    def test_shapes(self):
        """The whole height, an element, another scale, JPEG and PDF."""
        tall = self.capture(url=f"{self.site.url}/tall", full_page=True)
        width, height, at = pixels(self.picture(tall))
        self.assertEqual((width, height, at(500, 2450)), (1000, 2500, (10, 200, 30)))
        element = self.capture(url=f"{self.site.url}/charts", element="canvas:nth-of-type(6)", scale=2)
        width, height, at = pixels(self.picture(element))
        self.assertEqual((width, height, at(220, 140)), (440, 280, COLOURS[5]))
        jpeg = self.capture(url=f"{self.site.url}/plain", format="jpeg")
        self.assertEqual((self.picture(jpeg)[:3], jpeg["width"], jpeg["change"]), (b"\xff\xd8\xff", 1000, None))
        self.assertEqual(self.picture(self.capture(url=f"{self.site.url}/plain", format="pdf"))[:5], b"%PDF-")
        dark = self.capture(404, url=f"{self.site.url}/plain", element="#nothing", settle_seconds=1)
        self.assertIn("#nothing", dark["message"])
        self.assertIn("CSS selector", self.capture(400, url=f"{self.site.url}/plain", wait_for="((")["message"])
        self.assertIn("Europe/Berlin", self.capture(400, url=f"{self.site.url}/plain", tz="Nowhere/Land")["message"])

    def test_logins_go_to_their_own_place_and_to_no_other(self):
        other = Site()
        self.addCleanup(other.stop)
        needs = self.capture(409, url=f"{self.site.url}/members")
        self.assertIn("asks for a login", needs["message"])
        self.assertIn("asks for a login", self.capture(409, url=f"{self.site.url}/basic")["message"])
        image = urllib.parse.quote(f"{other.url}/plain")
        self.capture(source="grafana", url=f"/token?other={image}")
        self.assertEqual([headers.get("authorization") for headers in other.asked("/plain")], [None])
        self.add("basic", login={"kind": "basic", "username": "ada", "secret": "secret://env/ADA"})
        self.add("cookie", login={"kind": "cookie", "name": "sid", "secret": "secret://env/GRAFANA"})
        self.add("header", login={"kind": "header", "name": "X-Token", "secret": "secret://env/GRAFANA"})
        for name in ("basic", "cookie", "header"):
            self.assertEqual(self.capture(source=name, url=f"/{name}")["title"], "Plain")
        self.add("form", login={"kind": "form", "username": "ada", "secret": "secret://env/ADA"})
        self.assertEqual(self.capture(source="form", url="/members")["title"], "Plain")
        self.add("wrong", login={"kind": "form", "username": "ada", "secret": "secret://env/GRAFANA"})
        self.assertIn("not accepted", self.capture(409, source="wrong", url="/members")["message"])
        self.assertIn("secret", self.refused_source({"kind": "bearer", "secret": TOKEN})["message"])

    def refused_source(self, login):
        body = {"name": "bad", "place": {"url": self.site.url, "login": login}}
        status, answer = self.room.request("POST", "/dashboards/sources", body, key=self.key)
        self.assertEqual(status, 400, answer)
        return answer["error"]

    def test_pages_that_misbehave_are_bounded_and_explained(self):
        page = lambda name: self.site.url + name
        for path in ("/moved-inwards", "/script-inwards"):
            error = self.capture(403, url=page(path))
            self.assertIn("127.0.0.2", error["message"])
        never = self.capture(url=page("/never"), settle_seconds=2)
        self.assertEqual((never["complete"], never["waiting"]), (False, ["pixels: they change"]))
        slow = self.capture(url=page("/slow-answer"), settle_seconds=2)
        self.assertIn("/hangs", slow["waiting"][0])
        self.assertIn("crashed", self.capture(503, url=page("/crash"), timeout_seconds=60)["message"])
        self.assertIn("does not let the browser answer", self.capture(503, url=page("/busy"), settle_seconds=2)["message"])
        dialogs = self.capture(url=page("/dialogs"))
        self.assertEqual(dialogs["dialogs"], ["alert: one", "confirm: two", "prompt: three"])
        self.assertEqual(pixels(self.picture(dialogs))[2](900, 400), (0x20, 0x80, 0x40))
        self.assertIn("all.zip", self.capture(400, url=page("/file"))["message"])
        saves = self.capture(url=page("/saves"))
        self.assertEqual(saves["downloads"], ["all.zip"])
        self.assertEqual(pixels(self.picture(saves))[2](900, 400), (0x80, 0x20, 0x40))
        self.assertIn("answers 404", self.capture(404, url=page("/nothing"))["message"])
        self.assertIn("cannot be reached", self.capture(503, url="http://127.0.0.1:9/".replace(":9/", ":4/"))["message"])
        flood = self.capture(url=page("/endless"), settle_seconds=5)
        self.assertTrue(any("traffic_mib" in failure for failure in flood["failures"]), flood)
        # After all of it, an honest page is captured as ever.
        self.final(self.picture(self.capture(url=page("/charts"))))

    def test_a_page_that_reaches_inwards_reaches_nothing(self):
        canary = Canary()
        self.addCleanup(canary.stop)
        shot = self.capture(url=f"{self.site.url}/inwards?port={canary.port}&udp={canary.udp}", settle_seconds=6)
        self.assertEqual((shot["title"], canary.came), ("tried", []))
        refused = " ".join(shot["refused"])
        for place in (f"127.0.0.2:{canary.port}", "[::1]", "169.254.169.254:80", "10.0.0.1:80"):
            self.assertIn(place, refused)
        for url in (f"http://127.0.0.2:{canary.port}/", "http://169.254.169.254/", "http://[::1]/"):
            self.capture(403, url=url)
        for url in ("file:///etc/passwd", "chrome://settings", "javascript:alert(1)", "data:text/html,x"):
            self.capture(400, url=url)
        self.assertEqual(canary.came, [])

    def test_fifty_at_once_wait_for_each_other(self):
        ids = []
        for n in range(50):
            body = {"url": f"{self.site.url}/plain?fifty={n}", "width": 200, "height": 100, "background": True}
            status, answer = self.room.request("POST", "/captures", body, key=self.key)
            self.assertEqual(status, 202, answer)
            ids.append(answer["job_id"])
        listed = lambda: self.room.request("GET", "/captures?limit=200", key=self.key)[1]["items"]
        taken = lambda: [it for it in listed() if "fifty=" in it["url"]]
        until(lambda: time.sleep(0.5) or len(taken()) == 50, 120)
        self.assertTrue(all(it["complete"] for it in taken()))
        jobs = [self.room.request("GET", f"/jobs/{id}", key=self.key)[1] for id in ids]
        self.assertLessEqual({job["state"] for job in jobs}, {"succeeded", "running"})

    def test_prometheus_shows_its_graph(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="prometheus-"))
        self.addCleanup(shutil.rmtree, folder, True)
        port = self.site.port
        scrape = "scrape_configs: [{job_name: self, scrape_interval: 1s, static_configs: [{targets: ['127.0.0.1:%d']}]}]\n"
        url, service = prometheus(folder, "global: {scrape_interval: 1s}\n" + scrape % port)
        self.addCleanup(service.stop)
        until(lambda: json.load(urllib.request.urlopen(url + "/api/v1/query?query=" + urllib.parse.quote("count_over_time(up[1m]) > 8")))["data"]["result"])
        expression = urllib.parse.quote("count_over_time(up[1m])")
        shot = self.capture(url=f"{url}/graph?g0.expr={expression}&g0.tab=0&g0.range_input=1m", full_page=True)
        width, height, at = pixels(png := self.picture(shot))
        self.keep("prometheus.png", png)
        self.assertTrue(shot["complete"], shot)
        self.assertIn("Prometheus", shot["title"])
        # The line is red, and above the box that names it.
        red = sum(at(x, y)[0] - at(x, y)[1] > 80 for y in range(350, min(height, 730)) for x in range(90, width - 70))
        self.assertGreater(red, 50)

    @staticmethod
    def keep(name, png):
        """For whoever wants to look at it."""
        folder = pathlib.Path(WORK) / "captures"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(png)

    def test_a_grafana_with_and_without_its_renderer(self):
        asked = {"source": "grafana", "dashboard_uid": "shop", "from": "now-6h", "to": "now", "vars": {"host": "web-1"}}
        shot = self.capture(**asked)
        panels = {panel["title"]: (panel["state"], panel["message"]) for panel in shot["panels"]}
        expected = {"Requests": ("ok", ""), "Errors": ("no_data", ""), "Queue": ("error", "query timed out")}
        self.assertEqual((panels, shot["via"]), (expected, "browser"))
        self.assertEqual(pixels(png := self.picture(shot))[2](990, 490), (30, 140, 70))
        self.keep("grafana.png", png)
        self.assertIn("var-host=web-1", shot["url"])
        drawn = self.capture(**asked, panel_id="4", via="grafana", width=300, height=200)
        self.assertEqual((drawn["via"], pixels(self.picture(drawn))[2](5, 5)), ("grafana", (9, 99, 199)))
        self.site.renderer = False
        try:
            self.assertIn("no image renderer", self.capture(409, **asked, via="grafana")["message"])
            self.assertIn("asks for a login", self.capture(409, url=f"{self.site.url}/d/shop/_")["message"])
        finally:
            self.site.renderer = True
        # A room without a browser: Grafana's renderer draws, and without that the answer says what to do.
        with Room(environment=SECRETS) as room:
            room.stop()
            config(room, SETTINGS + "  chromium: /nonexistent/browser\n")
            room.start()
            key = room.key()
            body = {"name": "g", "place": {"kind": "grafana", "url": self.site.url, "login": {"kind": "bearer", "secret": "secret://env/GRAFANA"}}}
            room.request("POST", "/dashboards/sources", body, key=key)
            ask = lambda: room.request("POST", "/captures", {"source": "g", "dashboard_uid": "shop"}, key=key)
            status, answer = ask()
            self.assertEqual((status, answer.get("via")), (200, "grafana"), answer)
            self.site.renderer = False
            try:
                status, answer = ask()
            finally:
                self.site.renderer = True
            self.assertEqual(status, 503, answer)
            for word in ("/nonexistent/browser", "no image renderer"):
                self.assertIn(word, answer["error"]["message"])

    def test_an_agent_sees_the_picture(self):
        async def ask():
            transport = StreamableHttpTransport(self.room.url + "/mcp", headers={"Authorization": f"Bearer {self.key}"})
            async with Client(transport) as client:
                taken = await client.call_tool("capture_dashboard", {"url": f"{self.site.url}/charts"})
                again = await client.call_tool("get_capture", {"id": taken.structured_content["id"]})
                return taken, again

        for answer in asyncio.run(ask()):
            (text, image) = answer.content
            self.assertEqual((text.type, image.type, image.mime_type), ("text", "image", "image/png"))
            self.final(base64.b64decode(image.data))
            self.assertNotIn("data", answer.structured_content)
        entries = self.room.request("GET", "/audit?limit=50", key=self.key)[1]["items"]
        self.assertTrue(any(it["operation"] == "capture_dashboard" and it["face"] == "mcp" for it in entries))

    def test_a_schedule_takes_pictures(self):
        body = {"name": "daily", "cron": "0 3 * * *", "zone": "UTC", "operation": "capture_dashboard",
                "input": {"url": f"{self.site.url}/plain?scheduled", "width": 200, "height": 100}}  # fmt: skip
        status, made = self.room.request("POST", "/schedules", body, key=self.key)
        self.assertEqual(status, 200, made)
        self.room.request("POST", f"/schedules/{made['id']}/run", {}, key=self.key)
        taken = lambda: [it for it in self.room.request("GET", "/captures?limit=200", key=self.key)[1]["items"] if it["url"].endswith("?scheduled")]
        until(taken)
        self.room.request("DELETE", f"/schedules/{made['id']}", key=self.key)

    def test_an_alert_gets_a_picture_of_its_dashboard(self):
        _, made = self.room.request("POST", "/receivers", {"name": "am", "sender": "alertmanager"}, key=self.key)
        self.room.secrets.add(made["secret"])
        alert = {"status": "firing", "labels": {"alertname": "Late"}, "startsAt": "2026-01-05T10:00:00Z"}
        body = {"version": "4", "status": "firing", "alerts": [alert]}
        self.assertEqual(self.room.request("POST", "/webhooks/am", body, key=made["secret"])[0], 200)
        taken = lambda: [it for it in self.room.request("GET", "/captures?limit=200", key=self.key)[1]["items"] if it["alert"]]
        (capture,) = until(taken)
        told = lambda: self.room.request("GET", f"/alerts/{capture['alert']}/explanation", key=self.key)[1]["evidence"]
        (found,) = until(lambda: [it for it in told() if it["state"] == "done"])
        job = found["answer"]
        if "job_id" in job:
            job = until(lambda: self.room.request("GET", f"/jobs/{job['job_id']}", key=self.key)[1].get("result"))
        self.assertEqual(job["picture"], capture["picture"])
        self.assertEqual(pixels(self.picture(capture))[2](190, 90), (0x30, 0x60, 0xC0))

    def test_a_room_without_work_has_no_browser(self):
        # What others left that were killed is not this room's.
        folders = lambda: {folder for folder in glob.glob(tempfile.gettempdir() + "/opsroom-browser-*") if os.stat(folder).st_mtime > begun}
        begun = time.time() - 1
        self.capture(url=f"{self.site.url}/plain")
        self.assertTrue(browsers())
        until(lambda: not browsers())
        until(lambda: not folders())


if __name__ == "__main__":
    unittest.main()
