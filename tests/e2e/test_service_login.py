"""The gateway logs in at a service that wants a token: one server is the service and its authorization server, as
anybody's could be, and another one is its client."""

import time
import unittest
import urllib.parse
import urllib.request

from room import Room
from test_oauth import PASSWORD, Browser

LOOPBACK = {"OPSROOM__EGRESS__ALLOW_ADDRESSES": '["127.0.0.1", "::1"]'}


class ServiceLogin(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = cls.enterClassContext(Room(environment={"OPSROOM__OAUTH__REGISTRATION": "true", "OPSROOM__OAUTH__ACCESS_MINUTES": "1"}))
        made = cls.service.operation("create-user", "--username", "ada", "--email", "ada@example.com", "--role", "operator")
        cls.service.request("POST", "/auth/password/reset", {"token": made["invitation"], "password": PASSWORD})
        cls.room = cls.enterClassContext(Room(environment=LOOPBACK))
        cls.key = cls.room.key()

    def setUp(self):
        self.name = self.id().rsplit(".", 1)[1].replace("_", "-")[:40]
        made = {"name": self.name, "service_type": "remote", "url": f"{self.service.url}/mcp", "wait_seconds": 0}
        self.assertLess(self.room.request("POST", "/services", made, self.key)[0], 300)
        self.addCleanup(self.room.request, "DELETE", f"/services/{self.name}?wait_seconds=10", None, self.key)

    def begin(self):
        status, begun = self.room.request("POST", f"/services/{self.name}/connect", {}, self.key)
        self.assertEqual(status, 200, begun)
        self.assertEqual(begun["data"]["issuer"], self.service.url)
        return begun["data"]["authorization_url"]

    def come_back(self, target):
        return Browser(self.room.url).go(target)[0]

    def state(self, wanted):
        deadline = time.monotonic() + 20
        while True:
            service = self.room.request("GET", f"/services/{self.name}", None, self.key)[1]["data"]
            if wanted(service) or time.monotonic() > deadline:
                return service
            time.sleep(0.1)

    def call(self):
        version = "2026-07-28"
        meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_info", "arguments": {}, "_meta": meta}}
        headers = {"MCP-Protocol-Version": version, "Mcp-Method": "tools/call", "Mcp-Name": "get_info", "Accept": "application/json"}
        return self.room.request("POST", f"/mcp/services/{self.name}", body, self.key, headers)[1]

    def works(self):
        answer = self.call()
        self.assertIn("result", answer)
        self.assertFalse(answer["result"].get("isError", False), answer)

    def log_in(self):
        target = Browser(self.service.url).authorize(self.begin(), "ada")
        self.assertEqual(self.come_back(target), 200)
        self.assertEqual(self.state(lambda it: it["status"] == "running")["status"], "running")
        return target

    def test_a_person_logs_in_and_everybody_calls(self):
        service = self.state(lambda it: it["reason"])
        self.assertIn("connect_service", service["reason"])
        target = self.log_in()
        self.works()
        # What is logged in at needs no login.
        status, answer = self.room.request("POST", f"/services/{self.name}/connect", {}, self.key)
        self.assertEqual((status, answer["error"]["kind"]), (409, "conflict"))
        # An answer counts once.
        self.assertEqual(self.come_back(target), 403)
        # The service's owner ends it: we are told what to do, and log in again.
        grant = next(grant for grant in self.service.operation("list-grants")["items"] if grant["client_name"] == "Opsroom")
        self.service.operation("revoke-grant", grant["id"])
        self.assertIn("connect_service", self.call()["error"]["message"])
        self.assertIn("connect_service", self.state(lambda it: it["reason"])["reason"])
        self.log_in()
        self.works()
        # We forget it.
        self.assertEqual(self.room.request("POST", f"/services/{self.name}/disconnect", {}, self.key)[0], 200)
        self.assertIn("connect_service", self.state(lambda it: it["reason"])["reason"])
        self.assertIn("error", self.call())

    def test_a_login_outlives_its_tokens(self):
        self.log_in()
        time.sleep(62)
        self.works()

    def test_an_answer_of_another_issuer_or_of_nobody_is_not_taken(self):
        target = Browser(self.service.url).authorize(self.begin(), "ada")
        parts = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(parts.query))
        self.assertEqual(query["iss"], self.service.url)
        for wrong in (
            {**query, "state": "ost_" + "0" * 64},
            {name: value for name, value in query.items() if name != "state"},
            {**query, "iss": "https://evil.example"},
        ):
            back = parts._replace(query=urllib.parse.urlencode(wrong)).geturl()
            self.assertEqual(self.come_back(back), 403, wrong)
        # The one from another issuer used the state up; nothing was sent there or here.
        self.assertEqual(self.come_back(target), 403)
        self.assertNotEqual(self.state(lambda it: it["reason"])["status"], "running")

    def test_a_token_is_not_sent_to_where_the_service_moves(self):
        self.log_in()
        elsewhere = Room(environment={"OPSROOM__OAUTH__REGISTRATION": "true"})
        with elsewhere:
            moved = {"url": f"{elsewhere.url}/mcp"}
            self.assertEqual(self.room.request("PUT", f"/services/{self.name}", moved, self.key)[0], 200)
            self.assertIn("connect_service", self.state(lambda it: it["reason"])["reason"])
            self.assertIn("error", self.call())

    def test_a_no_is_a_no(self):
        target = Browser(self.service.url).authorize(self.begin(), "ada", answer="no")
        self.assertEqual(self.come_back(target), 403)
        self.assertIn("connect_service", self.state(lambda it: it["reason"])["reason"])

    def test_what_a_viewer_may_not(self):
        viewer = self.room.key("viewer")
        self.assertEqual(self.room.request("POST", f"/services/{self.name}/connect", {}, viewer)[0], 403)


if __name__ == "__main__":
    unittest.main()
