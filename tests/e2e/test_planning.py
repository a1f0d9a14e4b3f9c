"""Plans as others meet them: the older system's requests, five sources of the same history, Prometheus on
both sides, a crash between an answer and its message, and many plans at once."""

import concurrent.futures
import datetime
import http.client
import http.server
import json
import math
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest
import urllib.parse
import urllib.request

from room import Room

# The schema of the older system's answer; what is ours comes beside it.
HOUR = {"type": "object", "required": ["time", "value"], "properties": {"time": {"type": "string"}, "value": {"type": "number"}}}
ANSWER = {
    "type": "object",
    "required": ["prediction", "recommended_flavor", "expected_cost_per_day", "generated_at", "notes"],
    "properties": {
        "prediction": {
            "type": "object",
            "required": ["service_id", "github_url", "metric_name", "model_version", "generated_at", "predictions"],
            "properties": {
                **{name: {"type": "string", "minLength": 1} for name in ("service_id", "github_url", "metric_name", "model_version", "generated_at")},
                "predictions": {"type": "array", "minItems": 24, "maxItems": 24, "items": HOUR},
            },
        },
        "recommended_flavor": {"enum": ["small", "medium", "large"]},
        "expected_cost_per_day": {"type": "number", "exclusiveMinimum": 0},
        "generated_at": {"type": "string"},
        "notes": {"type": ["string", "null"]},
    },
}

# The example request of the older system, with the name in both dialects.
EXAMPLE = {
    "metric_name": "total_events",
    "context": {
        "context_id": "ctx-demo-001",
        "timestamp": "2025-11-11T10:00:00",
        "service_type": "web",
        "runtime_env": "prod",
        "time_slot": "peak",
        "weight": 1.0,
        "region": "ap-northeast-2",
        "expected_users": 1200,
        "curr_cpu": 2.0,
        "curr_mem": 4096.0,
    },
}
NOW = datetime.datetime(2025, 11, 11, 10, tzinfo=datetime.timezone.utc)
METRICS = ("total_events", "avg_cpu", "avg_memory")
HOURS = 500


def value(metric, hour):
    """A day, a little noise, and no two hours alike."""
    shape = 1 + 0.6 * math.sin((hour % 24 - 8) / 24 * 2 * math.pi) + 0.1 * math.sin(hour * hour)
    return {"total_events": round(130 * shape), "avg_cpu": 0.3 * shape, "avg_memory": 0.5 + 0.05 * shape}[metric]


def history(hours=HOURS):
    """(time, metric, value) up to and including `NOW`."""
    for hour in range(hours):
        at = NOW - datetime.timedelta(hours=hours - 1 - hour)
        for metric in METRICS:
            yield at, metric, value(metric, hour)


def wide(times=1):
    """The history as the older system's file, or one of so many times its values."""
    lines = ["timestamp," + ",".join(METRICS)]
    for hour in range(HOURS):
        at = NOW - datetime.timedelta(hours=HOURS - 1 - hour)
        lines.append(",".join([at.strftime("%Y-%m-%dT%H:%M:%SZ")] + [repr(times * value(metric, hour)) for metric in METRICS]))
    return "\n".join(lines) + "\n"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A process of somebody else's for the length of a test."""

    def __init__(self, command, ready, log):
        self.log = open(log, "w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(ready, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"{command[0]} did not start: " + pathlib.Path(log).read_text()[-3000:])
            time.sleep(0.1)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        self.log.close()


def prometheus(folder, config=""):
    """Debian's Prometheus over the data folder `folder/data`."""
    if not shutil.which("prometheus"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "prometheus"], check=True, stdout=subprocess.DEVNULL)
    folder.joinpath("prometheus.yml").write_text(config or "global: {}\n")
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    return url, Service(command, url + "/-/ready", folder / "prometheus.log")


def fill_prometheus(folder):
    """The history as blocks of a Prometheus, made by its own tool."""
    if not shutil.which("promtool"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "prometheus"], check=True, stdout=subprocess.DEVNULL)
    lines = []
    for name in METRICS:
        lines.append(f"# TYPE {name} gauge")
        lines += [f'{name}{{service="demo-service"}} {v!r} {at.timestamp()}' for at, metric, v in history() if metric == name]
    (folder / "history.om").write_text("\n".join(lines) + "\n# EOF\n")
    (folder / "data").mkdir()
    done = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "history.om", folder / "data"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise AssertionError(done.stderr)


def fill_database(command, text, ts, key):
    """Makes and fills the older system's table through the database's own client."""
    rows = ",".join(f"('demo-service','{metric}','{at:%Y-%m-%d %H:%M:%S}',{v!r})" for at, metric, v in history())
    sql = (
        f"CREATE TABLE metric_history (service_id VARCHAR(128), metric_name VARCHAR(128), ts {ts}, value {key}, "
        f"PRIMARY KEY (service_id, metric_name, ts)); INSERT INTO metric_history VALUES {rows};"
    )
    done = subprocess.run(command, input=text + sql, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(done.stderr)


class Receiver:
    """A webhook as Discord's: it keeps what it was sent and answers 204."""

    def __init__(self, port):
        received = self.received = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Events:
    """The alarms of planning that a room tells whoever listens, from now on."""

    def __init__(self, room, key):
        self.seen = []
        request = urllib.request.Request(room.url + "/events", headers={"Authorization": f"Bearer {key}"})
        self.stream = urllib.request.urlopen(request, timeout=120)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for line in self.stream:
                if line.startswith(b"data:") and b"planning.anomaly" in line:
                    self.seen.append(json.loads(line[5:]))
        except (OSError, http.client.HTTPException):
            pass  # The server was stopped.

    def wait_for(self, count):
        deadline = time.monotonic() + 20
        while len(self.seen) < count and time.monotonic() < deadline:
            time.sleep(0.05)


def config(room, text):
    """Gives a room that is not started yet a configuration file."""
    path = room.folder / "opsroom.yaml"
    path.write_text(text)
    room.environment["OPSROOM_CONFIG"] = str(path)


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Planning(unittest.TestCase):
    def plan(self, room, key, **more):
        status, plan = room.request("POST", "/plans", {**EXAMPLE, **more}, key=key)
        self.assertEqual(status, 200, plan)
        return plan

    def test_the_older_example_gets_its_full_answer_in_both_dialects(self):
        import jsonschema

        with Room() as room:
            key = room.key()
            status, stored = room.request("POST", "/metrics/ingest", {"service_id": "demo-service", "csv": wide()}, key=key)
            self.assertEqual(status, 200, stored)
            plans = [self.plan(room, key, **{name: "demo-service"}) for name in ("service_id", "github_url")]
            for plan in plans:
                jsonschema.validate(plan, ANSWER)
                hours = plan["prediction"]["predictions"]
                self.assertEqual(len({hour["value"] for hour in hours}), 24, "24 different values")
                self.assertTrue(all(20 < hour["value"] < 400 for hour in hours), "in the metric's own unit")
                self.assertEqual(hours[0]["time"], "2025-11-11T11:00:00Z")
                self.assertIsNotNone(hours[0]["lower95"])
            self.assertEqual(plans[0]["prediction"]["predictions"], plans[1]["prediction"]["predictions"])
            # The flavor follows the forecast: of a weight, and of busier histories.
            heavy = {**EXAMPLE["context"], "weight": 10.0}
            self.assertEqual(plans[0]["recommended_flavor"], "small")
            self.assertEqual(self.plan(room, key, service_id="demo-service", context=heavy)["recommended_flavor"], "large")
            for times, flavor in ((2, "medium"), (5, "large")):
                body = {"service_id": f"busy-{times}", "csv": wide(times)}
                self.assertEqual(room.request("POST", "/metrics/ingest", body, key=key)[0], 200)
                busy = self.plan(room, key, service_id=f"busy-{times}")
                self.assertEqual(busy["recommended_flavor"], flavor, busy["recommendation"])
                self.assertGreater(busy["expected_cost_per_day"], plans[0]["expected_cost_per_day"])
            # The document that clients are made from holds the answer, too.
            _, document = room.request("GET", "/openapi.json", key=key)
            schema = document["paths"]["/plans"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema.validate(plans[0], {**schema, "components": document["components"]})

    def test_the_same_history_gives_the_same_plan_from_five_sources(self):
        postgres, mysql = os.environ.get("OPSROOM_TEST_POSTGRES_URL"), os.environ.get("OPSROOM_TEST_MYSQL_URL")
        self.assertTrue(postgres and mysql, "./test starts PostgreSQL and MariaDB for this")
        name = f"planning_{os.getpid()}"
        at = urllib.parse.urlsplit(mysql)
        client = ["mariadb", "--no-defaults", f"--host={at.hostname}", f"--port={at.port}", f"--user={at.username}"]
        fill_database(client, f"CREATE DATABASE {name}; USE {name};", "DATETIME", "DOUBLE")
        subprocess.run(["psql", "-q", postgres, "-c", f"CREATE DATABASE {name}"], check=True)
        of_test = postgres.rsplit("/", 1)[0] + "/" + name
        fill_database(["psql", "-q", "-v", "ON_ERROR_STOP=1", of_test], "", "TIMESTAMP", "DOUBLE PRECISION")
        rooms = {kind: Room() for kind in ("store", "csv", "mysql", "postgres", "prometheus")}
        folder = rooms["prometheus"].folder / "prometheus"
        folder.mkdir()
        fill_prometheus(folder)
        url, server = prometheus(folder)
        plans = {}
        try:
            (rooms["csv"].folder / "history.csv").write_text(wide())
            config(rooms["csv"], f"planning:\n  source: csv\n  csv_path: {rooms['csv'].folder}/history.csv\n")
            # The seed's own variables name its database.
            rooms["mysql"].environment.update(
                DATA_SOURCE_BACKEND="mysql", MYSQL_HOST=at.hostname, MYSQL_PORT=str(at.port), MYSQL_USER=at.username, MYSQL_DATABASE=name
            )
            config(rooms["postgres"], f"planning:\n  source: postgres\n  database:\n    url: {of_test}\n")
            queries = "".join(f"      {metric}: '{metric}{{service=\"{{service}}\"}}'\n" for metric in METRICS)
            config(
                rooms["prometheus"],
                "egress:\n  allow_addresses: [127.0.0.1]\n"
                f"planning:\n  source: prometheus\n  prometheus:\n    url: {url}\n    queries:\n{queries}",
            )
            body = {**EXAMPLE, "service_id": "demo-service", "metric_names": METRICS}
            del body["metric_name"]
            for kind, room in rooms.items():
                with room:
                    key = room.key()
                    if kind == "store":
                        room.request("POST", "/metrics/ingest", {"service_id": "demo-service", "csv": wide()}, key=key)
                    status, answer = room.request("POST", "/plans/multi", body, key=key)
                    self.assertEqual(status, 200, (kind, answer))
                    for plan in answer["results"].values():
                        self.assertEqual(plan["history"].pop("source"), kind)
                        self.assertEqual(plan["history"]["hours"], HOURS, kind)
                        self.assertTrue(plan["recommendation"]["given"], plan)
                    plans[kind] = answer
        finally:
            server.stop()
            subprocess.run(client, input=f"DROP DATABASE {name};", text=True, check=True)
            subprocess.run(["psql", "-q", postgres, "-c", f"DROP DATABASE {name}"], check=True)
        for kind, answer in plans.items():
            self.assertEqual(answer, plans["store"], kind)

    def test_prometheus_reads_the_outlook_and_writes_what_it_read(self):
        with Room() as room:
            key = room.key()
            now = datetime.datetime.now(datetime.timezone.utc).timestamp()
            points = [{"timestamp": now - 3600 * hour, "value": 0.3 + 0.1 * math.sin(hour / 4)} for hour in range(400)]
            body = {"service_id": "shop", "metric_name": "avg_cpu", "points": points}
            self.assertEqual(room.request("POST", "/metrics/ingest", body, key=key)[0], 200)
            status, text = room.request("GET", "/plans/shop/metrics", key=key)
            self.assertEqual(status, 200, text)
            checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
            self.assertEqual(len(re.findall(r'^opsroom_plan_value\{service="shop",metric="avg_cpu",hours_ahead="\d+"\} 0\.\d+$', text, re.M)), 24)
            # The number that a KEDA scaler of the kind metrics-api reads: valueLocation items.0.value.
            status, scaler = room.request("GET", "/plans/shop/external-metrics?metric_names=avg_cpu&hours=2", key=key)
            self.assertEqual(status, 200, scaler)
            self.assertEqual((scaler["kind"], scaler["apiVersion"]), ("ExternalMetricValueList", "external.metrics.k8s.io/v1beta1"))
            self.assertRegex(scaler["items"][0]["value"], r"^\d+m?$")
            self.assertEqual(room.request("GET", "/plans/nobody/metrics", key=key)[0], 404)
            self.assertEqual(room.request("GET", "/plans/shop/metrics")[0], 401)
            host = room.url.removeprefix("http://")
            folder = room.folder / "prometheus"
            folder.mkdir()
            url, server = prometheus(
                folder,
                "global: {scrape_interval: 1s}\n"
                "scrape_configs:\n  - job_name: outlook\n    honor_labels: true\n    metrics_path: /plans/shop/metrics\n"
                f"    authorization: {{credentials: {key}}}\n    static_configs: [{{targets: ['{host}']}}]\n"
                f"remote_write:\n  - url: {room.url}/metrics/write\n    authorization: {{credentials: {key}}}\n"
                "    write_relabel_configs:\n"
                "      - {source_labels: [__name__], regex: opsroom_plan_limit, action: keep}\n"
                "      - {regex: instance|job, action: labeldrop}\n",
            )
            try:
                wanted = 'opsroom_plan_limit{metric="avg_cpu"}'
                deadline = time.monotonic() + 60
                while True:
                    _, listed = room.request("GET", "/metrics/series?service_id=shop", key=key)
                    if wanted in [item["metric_name"] for item in listed["items"]]:
                        break
                    self.assertLess(time.monotonic(), deadline, (listed, (folder / "prometheus.log").read_text()[-2000:]))
                    time.sleep(0.5)
            finally:
                server.stop()

    def test_remote_write_refuses_what_is_not_that(self):
        with Room() as room:
            key = room.key()
            good = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
            bomb = varint(1 << 31) + b"\x00"
            for body, headers, wanted in [
                (b"not snappy", good, 400),
                (bomb, good, 400),
                (b"{}", {"Content-Type": "application/json", "Content-Encoding": "snappy"}, 415),
                (b"", {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "Content-Encoding": "snappy"}, 415),
                (b"", {"Content-Type": "application/x-protobuf"}, 415),
            ]:
                status, answer = room.request("POST", "/metrics/write", body, key=key, headers=headers)
                self.assertEqual(status, wanted, answer)
            viewer = room.key("viewer")
            self.assertEqual(room.request("POST", "/metrics/write", b"", key=viewer, headers=good)[0], 403)

    def test_a_message_survives_kill_9_between_the_answer_and_its_delivery(self):
        port = free_port()
        with Room(environment={"DISCORD_WEBHOOK_URL": f"http://127.0.0.1:{port}/webhook"}) as room:
            room.stop()
            config(room, f"egress:\n  allow_addresses: [127.0.0.1]\n  ports: [{port}]\n")
            room.start()
            key = room.key()
            room.request("POST", "/metrics/ingest", {"service_id": "demo-service", "csv": wide()}, key=key)
            events = Events(room, key)
            jump = {**EXAMPLE["context"], "weight": 10.0}
            plan = self.plan(room, key, service_id="demo-service", context=jump)
            self.assertTrue(plan["anomaly"]["anomaly_detected"], plan["anomaly"])
            # Nobody listens at the webhook yet: the answer is there, the message is not delivered.
            events.wait_for(1)
            room.stop(signal.SIGKILL)
            receiver = Receiver(port)
            try:
                room.start()
                later = Events(room, key)
                deadline = time.monotonic() + 90
                while not receiver.received and time.monotonic() < deadline:
                    time.sleep(0.2)
                for _ in range(3):
                    self.plan(room, key, service_id="demo-service", context=jump)
                deadline = time.monotonic() + 60
                while time.monotonic() < deadline:
                    _, listed = room.request("GET", "/notifications", key=key)
                    if listed["items"] and all(item["state"] == "sent" for item in listed["items"]):
                        break
                    time.sleep(0.2)
                self.assertEqual([item["state"] for item in listed["items"]], ["sent"], listed)
                self.assertEqual(len(receiver.received), 1, receiver.received)
                message = receiver.received[0]
                self.assertEqual(message["username"], "MCP-dangerous")
                self.assertIn("demo-service", message["embeds"][0]["title"])
                self.assertEqual([event["subject"] for event in events.seen], ["demo-service"])
                self.assertEqual(later.seen, [], "an event is not told twice either")
            finally:
                receiver.stop()

    def test_a_thousand_plans_fifty_at_a_time(self):
        with Room() as room:
            key = room.key()
            room.request("POST", "/metrics/ingest", {"service_id": "demo-service", "csv": wide()}, key=key)
            for metric in METRICS:
                body = {"service_id": "demo-service", "metric_name": metric, "timestamp": EXAMPLE["context"]["timestamp"]}
                self.assertEqual(room.request("POST", "/forecasters/backtest", body, key=key)[0], 200)

            def one(at):
                body = {**EXAMPLE, "service_id": "demo-service", "metric_name": METRICS[at % 3]}
                return room.request("POST", "/plans", body, key=key)

            with concurrent.futures.ThreadPoolExecutor(50) as pool:
                answers = list(pool.map(one, range(1000)))
            self.assertEqual({status for status, _ in answers}, {200})
            for metric in range(3):
                same = {json.dumps(answer) for _, answer in answers[metric::3]}
                self.assertEqual(len(same), 1, "the same request gives the same answer")


if __name__ == "__main__":
    unittest.main()
