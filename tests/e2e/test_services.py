"""Services with a real Docker engine: what is wished for becomes so, isolated and limited, and is gone
when it is deleted, whatever is killed in between."""

import asyncio
import http.server
import os
import shutil
import signal
import threading
import time
import unittest

from engine import Engine, zombies
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from room import Room

MISSING = next((name for name in ("dockerd", "docker", "iptables") if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")), None)


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError("it did not become so")
        time.sleep(0.1)


class Services(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if MISSING:
            raise AssertionError(f"{MISSING} is missing: ./test installs it")
        cls.engine = cls.enterClassContext(Engine())
        cls.image = cls.engine.build()
        cls.engine.build("exits:1", ("/server", "exit"))
        cls.room = cls.enterClassContext(Room(environment=cls.environment()))
        cls.key = cls.room.key()

    @classmethod
    def environment(cls):
        return {
            "OPSROOM__SERVICES__DOCKER_SOCKET": str(cls.engine.socket),
            "OPSROOM__SERVICES__NETWORK_POOL": "10.213.0.0/16",
            "OPSROOM__LOGS__CONTAINERS": '["shop-*"]',
            # The way out is tested with a server of the test's own.
            "OPSROOM__EGRESS__ALLOW_ADDRESSES": '["127.0.0.1"]',
            "OPSROOM_SECRET_ECHO": "hunter2",
            "OPSROOM__GATEWAY__REFRESH_SECONDS": "5",
            # Each start again waits longer than the one before.
            "OPSROOM__SERVICES__RESTART_LIMIT": "3",
        }

    def request(self, method, path, body=None, status=None):
        got, answer = self.room.request(method, path, body, self.key)
        if status is not None:
            self.assertEqual(got, status, answer)
        return answer

    def create(self, name, status=201, **more):
        body = {"name": name, "image": "echo:1", "wait_seconds": 60, **more}
        answer = self.request("POST", "/services", body, status)
        if status == 201:
            self.addCleanup(lambda: self.request("DELETE", f"/services/{name}?force=true&wait_seconds=60"))
            self.assertEqual(answer["success"], True)
            return answer["data"]
        return answer

    def get(self, name):
        return self.request("GET", f"/services/{name}", status=200)["data"]

    def container(self, name):
        return self.engine.inspect(self.get(name)["container_id"])

    def call(self, tool, **arguments):
        """Calls a tool through the gateway, as an agent does; waits until the service is connected."""

        async def once():
            transport = StreamableHttpTransport(f"{self.room.url}/mcp", headers={"Authorization": f"Bearer {self.key}"})
            async with Client(transport) as client:
                if tool not in [known.name for known in await client.list_tools()]:
                    return None
                return await client.call_tool(tool, arguments, raise_on_error=False)

        found = wait_for(lambda: asyncio.run(once()), 30)
        return found.content[0].text

    def test_a_service_is_made_called_limited_killed_and_deleted(self):
        made = self.create("life", cpu_limit="500m", memory_limit="64Mi", environment_vars={"SECRET": "secret://env/ECHO"})
        self.assertEqual(made["status"], "running", made)
        self.assertEqual(self.call("life__echo", text="hello"), "hello")

        found = self.container("life")
        host = found["HostConfig"]
        self.assertEqual((host["Memory"], host["MemorySwap"], host["NanoCpus"]), (64 << 20, 64 << 20, 500_000_000))
        self.assertEqual(found["Image"], self.image, "pinned by its id")
        self.assertTrue(host["ReadonlyRootfs"] and not host["Privileged"])
        self.assertEqual((host["CapDrop"], host["CapAdd"]), (["ALL"], None))
        self.assertIn("no-new-privileges:true", host["SecurityOpt"])
        self.assertEqual((host["Binds"], host["Devices"] or [], host["PortBindings"] or {}), (None, [], {}))
        for mode in ("NetworkMode", "PidMode", "UTSMode", "UsernsMode"):
            self.assertNotEqual(host[mode], "host")
        self.assertEqual(host["IpcMode"], "private")
        cage = self.call("life__cage")
        self.assertIn("uid=65532 caps=0000000000000000 privileges=1 read_only=true tmp=true", cage)
        self.assertIn("secret=7", cage)

        stats = self.request("GET", "/services/life/stats", status=200)["data"]["usage"]
        self.assertEqual((stats["memory_limit_bytes"], stats["cpu_limit"]), (64 << 20, 0.5))
        self.assertGreater(stats["memory_bytes"], 0)
        logs = self.request("GET", "/services/life/logs?lines=10", status=200)["data"]["items"]
        self.assertIn("listening on 8080", [line["text"] for line in logs])
        health = self.request("GET", "/services/life/health", status=200)["data"]["health"]
        self.assertEqual(health["status"], "healthy", health)

        before = found["State"]["Pid"]
        os.kill(before, signal.SIGKILL)
        again = wait_for(lambda: self.get("life") if self.get("life")["restarts"] >= 1 and self.get("life")["status"] == "running" else None)
        self.assertNotEqual(self.container("life")["State"]["Pid"], before)
        self.assertEqual(again["reason"], None)
        self.assertEqual(self.call("life__echo", text="again"), "again")

        self.request("DELETE", "/services/life", status=409)
        gone = self.request("DELETE", "/services/life?force=true&wait_seconds=60", status=200)["data"]
        self.assertEqual(gone["status"], "removed")
        self.request("GET", "/services/life", status=404)
        self.assertFalse([name for name in self.engine.text("ps", "--all", "--format", "{{.Names}}").split() if "-life" in name])
        self.assertEqual((zombies(self.room.process.pid), zombies(self.engine.process.pid)), ([], []))

    def test_a_service_that_uses_more_than_its_memory_is_stopped_and_started_again(self):
        self.create("hungry", memory_limit="32Mi")
        with self.assertRaisesRegex(Exception, "hungry cannot be reached"):
            self.call("hungry__spend", megabytes="200")
        wait_for(lambda: self.get("hungry")["restarts"] >= 1 and self.get("hungry")["status"] == "running")
        self.assertEqual(self.call("hungry__echo", text="back"), "back")

    def test_services_of_one_vlan_reach_one_another_and_those_of_two_do_not(self):
        self.create("red-a", vlan_id=100)
        self.create("red-b", vlan_id=100)
        self.create("blue", vlan_id=200)
        address = lambda name: self.get(name)["ip_address"]
        self.assertEqual(self.call("red-a__reach", host=address("red-b"), port="8080"), "reached")
        self.assertEqual(self.call("red-a__reach", host="red-b", port="8080"), "reached")
        self.assertIn("not reached", self.call("red-a__reach", host=address("blue"), port="8080"))
        self.assertIn("not reached", self.call("blue__reach", host=address("red-a"), port="8080"))
        self.assertIn("unknown", self.call("blue__reach", host="red-a", port="8080"))
        # And nothing outside: an address that nobody here has.
        self.assertIn("not reached", self.call("red-a__reach", host="198.51.100.1", port="80"))
        networks = {line["name"]: line for line in self.request("GET", "/networks", status=200)["items"]}
        self.assertEqual(sorted(networks["vlan-100"]["services"]), ["red-a", "red-b"])
        self.assertNotEqual(networks["vlan-100"]["subnet"], networks["vlan-200"]["subnet"])

    def test_a_service_reaches_outside_only_what_its_list_names(self):
        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"from outside")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        port = server.server_port
        self.create("outward", allow_egress=[f"127.0.0.1:{port}"])
        self.assertIn("from outside", wait_for(lambda: self.call("outward__fetch", url=f"http://127.0.0.1:{port}/")))
        self.assertIn("403", self.call("outward__fetch", url="http://127.0.0.1:1/"))
        self.assertIn("403", self.call("outward__fetch", url="http://169.254.169.254/latest/meta-data"))

    def test_a_kill_of_opsroom_in_mid_deploy_is_repaired_at_the_next_start(self):
        for turn, pause in enumerate((0.02, 0.15, 0.4, 0.8)):
            with Room(environment=self.environment()) as room:
                key = room.key()
                body = {"name": "half", "image": "echo:1", "wait_seconds": 0}
                room.request("POST", "/services", body, key)
                time.sleep(pause)
                room.stop(signal.SIGKILL)
                room.start()
                running = lambda: room.request("GET", "/services/half", None, key)[1]["data"]["status"] == "running"
                wait_for(running)
                mine = [name for name in self.engine.text("ps", "--all", "--format", "{{.Names}}").split() if "-half" in name]
                self.assertEqual(len(mine), 1, f"turn {turn}: {mine}")
                before = self.engine.networks()
                status, gone = room.request("DELETE", "/services/half?force=true&wait_seconds=60", None, key)
                self.assertEqual((status, gone["data"]["status"]), (200, "removed"))
                self.assertEqual(len(self.engine.networks()), len(before) - 1)
                self.assertFalse([name for name in self.engine.text("ps", "--all", "--format", "{{.Names}}").split() if "-half" in name])

    def test_a_container_without_a_service_is_removed(self):
        self.create("owner")
        node = self.container("owner")["Config"]["Labels"]["opsroom.node"]
        orphan = self.engine.text("create", "--network", "none", "--label", f"opsroom.node={node}", "--label", "opsroom.service=9999", "echo:1")
        stranger = self.engine.text("create", "--network", "none", "--label", "opsroom.node=another", "echo:1")
        self.addCleanup(lambda: self.engine.docker("rm", "--force", stranger, check=False))
        wait_for(lambda: orphan not in self.engine.containers(), 90)
        self.assertIn(stranger, self.engine.containers())

    def test_supply_chain_a_service_stays_the_image_that_it_was_made_of(self):
        self.engine.build("chain:1")
        made = self.create("chain", image="chain:1")
        self.assertEqual(made["status"], "running", made)
        before = self.container("chain")["Image"]
        self.engine.text("tag", "exits:1", "chain:1")
        again = self.request("POST", "/services/chain/restart", {"wait_seconds": 60})
        self.assertTrue(again["success"], again)
        wait_for(lambda: self.get("chain")["status"] == "running")
        self.assertEqual(self.container("chain")["Image"], before)

    def test_bad_services_are_refused_with_reasons(self):
        missing = self.create("missing", 404, image="nothing:1")
        self.assertIn("no image `nothing:1`", missing["message"])
        self.assertEqual(missing["success"], False)
        self.create("limits", 400, memory_limit="lots")
        self.create("root", 403, user="root")
        self.create("port", 400, host_port=8080)
        self.create("twice")
        self.create("twice", 409)
        made = self.create("ends", image="exits:1", wait_seconds=0)
        ended = wait_for(lambda: self.get("ends") if self.get("ends")["status"] == "error" else None, 90)
        self.assertIn("exit code 7", ended["reason"])
        logs = self.request("GET", "/services/ends/logs", status=200)["data"]["items"]
        self.assertEqual(logs[0]["text"], "nothing to do")
        self.assertEqual(made["status"], "pending")
        for field in ("privileged", "volumes", "devices", "cap_add", "network_mode", "pid_mode", "binds"):
            self.create("evil", 400, **{field: True})
        plan = self.request("POST", "/networks", {"vlan_id": 300, "driver": "macvlan", "interface": "nosuch0", "dry_run": True})
        self.assertIn("no interface `nosuch0`", plan["refused"][0])

    def test_what_containers_and_services_write_is_searched_where_it_lies(self):
        self.engine.build("writes:1", ("/server", "write"))
        self.engine.text("run", "--detach", "--network", "none", "--name", "shop-1", "--label", "app=shop", "writes:1")
        self.engine.text("run", "--detach", "--network", "none", "--name", "vault", "--label", "app=shop", "writes:1")
        for name in ("shop-1", "vault"):
            self.addCleanup(lambda name=name: self.engine.docker("rm", "--force", name, check=False))
        ended = lambda: self.engine.inspect("shop-1")["State"]["Status"] == "exited"
        wait_for(ended)
        self.create("weather")
        for name, place in {
            "shop": {"kind": "docker", "container": "shop-*"},
            "labelled": {"kind": "docker", "labels": ["app=shop"]},
            "services": {"kind": "service"},
            "weather": {"kind": "service", "service": "weather"},
        }.items():
            self.request("POST", "/logs/sources", {"name": name, "place": place}, 200)
            self.addCleanup(lambda name=name: self.request("DELETE", f"/logs/sources/{name}", status=200))
        # A container that is not allowed is not there, whatever its labels are; nor is another team's or our own service.
        listed = lambda name: [item["key"] for item in self.request("POST", f"/logs/sources/{name}/objects", {}, 200)["items"]]
        self.assertEqual((listed("shop"), listed("labelled")), (["shop-1"], ["shop-1"]))
        self.assertEqual((listed("services"), listed("weather")), (["weather"], ["weather"]))
        search = lambda source, query="", **more: self.request("POST", "/logs/search", {"source": source, "query": query, **more}, 200)
        found = search("shop", "level:error", limit=5)
        self.assertEqual([line["text"].split(" ", 1)[1] for line in found["lines"] if "replica" in line["text"]], ["ERROR replica lost its connection to the primary"], found)
        self.assertEqual(search("shop", "\"Replica.java\"")["lines"][0]["text"], "\tat db.Replica.read(Replica.java:7)")
        warned = search("shop", "level:warn")["lines"]
        self.assertEqual([(line["text"], line["fields"]) for line in warned], [("disk is nearly full", {"disk": "sda1"})])
        self.assertEqual(search("shop", "\"a long line\"")["count"], 1)
        everything = search("shop")
        self.assertEqual(everything["count"], 205, everything["templates"])
        # The times are those of the engine: the last line came three seconds after the others.
        began, last = warned[0]["time"], search("shop", "\"the last line\"")["lines"][0]["time"]
        self.assertLess(began, last)
        self.assertEqual(search("shop", "", **{"from": last})["count"], 1)
        self.assertEqual(search("shop", "", **{"from": "2020-01-01", "until": last})["count"], 204)
        counted = self.request("POST", "/logs/count", {"source": "shop", "by": "level", "from": "-1h", "buckets": 4}, 200)
        self.assertEqual({group["value"]: group["count"] for group in counted["groups"]}, {"info": 202, "error": 2, "warn": 1})
        self.assertEqual(search("weather", "listening")["count"], 1)
        done = self.request("POST", "/logs/sources/shop/download", {"to": "down"}, 200)
        self.assertEqual((done["stored"], done["failed"]), (1, 0), done)
        self.assertIn("a long line", (self.room.data / "files/down/shop-1").read_text())
        self.engine.text("rm", "--force", "shop-1")
        self.assertIn("nothing lies in", str(self.request("POST", "/logs/search", {"source": "shop"}, 404)))

    def test_rug_pull_a_tool_that_changes_after_it_was_seen_is_withheld_until_it_is_approved(self):
        self.create("rug")
        self.assertEqual(self.call("rug__echo", text="x"), "x")
        tool = lambda: self.request("GET", "/tools/rug__echo", status=200)["data"]
        wait_for(lambda: tool()["pin"])
        self.call("rug__change")
        # The service does not tell: the gateway asks it again.
        changed = wait_for(lambda: tool() if tool()["status"] == "quarantined" else None, 120)
        self.assertEqual([change["path"] for change in changed["changes"]], ["/description"])
        self.assertIn("send every secret", changed["changes"][0]["now"])
        self.assertEqual(changed["description"], "Gives the text back", "what waits is not shown as the description")
        self.request("POST", "/tools/rug__echo/execute", {"parameters": {"text": "x"}}, 409)
        self.request("POST", "/tools/rug__echo/approve", {}, 200)
        self.assertEqual(self.call("rug__echo", text="x"), "x")


class EngineGone(unittest.TestCase):
    def test_an_engine_that_goes_away_is_told_and_waited_for(self):
        with Engine() as engine:
            engine.build()
            environment = {"OPSROOM__SERVICES__DOCKER_SOCKET": str(engine.socket), "OPSROOM__SERVICES__NETWORK_POOL": "10.214.0.0/16"}
            with Room(environment=environment) as room:
                key = room.key()
                status, made = room.request("POST", "/services", {"name": "lonely", "image": "echo:1", "wait_seconds": 60}, key)
                self.assertEqual((status, made["data"]["status"]), (201, "running"), made)
                get = lambda: room.request("GET", "/services/lonely", None, key)[1]["data"]
                engine.stop()
                away = wait_for(lambda: get() if get()["status"] == "error" else None)
                self.assertIn("does not answer", away["reason"])
                status, refused = room.request("POST", "/services", {"name": "other", "image": "echo:1"}, key)
                self.assertEqual((status, refused["error_code"]), (503, "unavailable"))
                room.request("POST", "/logs/sources", {"name": "own", "place": {"kind": "service"}}, key)
                status, refused = room.request("POST", "/logs/search", {"source": "own"}, key)
                self.assertEqual((status, "does not answer" in str(refused)), (503, True), refused)
                engine.start()
                wait_for(lambda: get()["status"] == "running", 90)
                room.request("DELETE", "/services/lonely?force=true&wait_seconds=60", None, key)
                self.assertEqual(engine.containers(), [])
                self.assertEqual(engine.networks(), [])


if __name__ == "__main__":
    unittest.main()
