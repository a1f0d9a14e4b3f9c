"""What is kept in and for clouds, against moto, which plays AWS: the master key in KMS, cloud accounts asked for by a
signed call and used by a log source."""

import time
import unittest

import boto3
from room import Room
from stores import aws

KEY = "a-secret-access-key-of-a-cloud-0123456789"
VALUE = "a-value-that-is-kept-sealed-0123456789"
REGION = "eu-central-1"


class Aws:
    """AWS on a free port, until it goes away."""

    def __init__(self):
        self.server = aws()
        self.url = self.server.url

    def client(self, service):
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, aws_access_key_id="AKIDTEST", aws_secret_access_key=KEY)

    def close(self):
        if self.server:
            self.server.stop()
            self.server = None


class Cloud(unittest.TestCase):
    def setUp(self):
        self.aws = Aws()
        self.addCleanup(self.aws.close)

    def room(self, **environment):
        room = Room(environment={"OPSROOM__EGRESS__ALLOW_ADDRESSES": "127.0.0.1", **environment})
        room.secrets.update({KEY, VALUE})
        return room

    def test_the_master_key_in_kms_and_a_kms_that_is_down(self):
        key = self.aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
        kms = {"KEY_ID": key, "REGION": REGION, "ENDPOINT": self.aws.url, "ACCESS_KEY_ID": "AKIDTEST", "SECRET_ACCESS_KEY": KEY}
        with self.room(**{f"OPSROOM__SECRETS__MASTER_KEY__KMS_{name}": value for name, value in kms.items()}) as room:
            admin = room.key()
            self.assertEqual(room.request("POST", "/secrets", {"path": "db", "value": VALUE}, admin)[0], 200)
            room.operation("rotate-master-key")
            room.stop()
            room.start()
            status, given = room.request("GET", "/secrets/db", key=admin)
            self.assertEqual((status, given["fields"]["value"]), (200, VALUE))
            self.assertFalse((room.data / "master.key").exists())
            room.stop()
            self.aws.close()
            room.start()
            status, told = room.request("GET", "/secrets/db", key=admin)
            self.assertEqual((status, told["error"]["kind"]), (503, "unavailable"), told)
            self.assertIn("AWS KMS", told["error"]["message"])
            self.assertEqual(room.request("POST", "/secrets", {"path": "new", "value": VALUE}, admin)[0], 503)

    def test_an_account_is_verified_and_a_log_source_uses_it_by_reference(self):
        s3 = self.aws.client("s3")
        s3.create_bucket(Bucket="logs", CreateBucketConfiguration={"LocationConstraint": REGION})
        for n in range(3):
            s3.put_object(Bucket="logs", Key=f"app/{n}.log", Body=b"INFO one\n")
        with self.room() as room:
            admin = room.key()
            link = {"name": "prod", "provider": "aws", "access_key_id": "AKIDTEST", "secret_access_key": KEY, "region": REGION, "settings": {"endpoint": self.aws.url}}
            status, account = room.request("POST", "/cloud-accounts", link, admin)
            self.assertEqual((status, account["state"]), (200, "not verified"), account)
            _, verdict = room.request("POST", "/cloud-accounts/prod/verify", {}, admin)
            self.assertEqual((verdict["state"], verdict["account"]["account_id"]), ("verified", "123456789012"), verdict)
            self.assertIn("arn:aws:sts::123456789012:user/", verdict["message"])
            place = {
                "kind": "s3", "bucket": "logs", "region": REGION, "endpoint": self.aws.url,
                "access_key_id": "secret://cloud/prod#access_key_id", "secret_access_key": "secret://cloud/prod#secret_access_key",
            }
            status, told = room.request("POST", "/logs/sources", {"name": "s3", "place": place}, admin)
            self.assertEqual(status, 200, told)
            _, listed = room.request("POST", "/logs/sources/s3/objects", {"prefix": "app/"}, admin)
            self.assertEqual(len(listed.get("items", [])), 3, listed)
            used = room.operation("list-audit", "--operation", "use_cloud_account")["items"]
            self.assertEqual({record["input"]["field"] for record in used}, {"access_key_id", "secret_access_key"})
            room.request("DELETE", "/cloud-accounts/prod", key=admin)
            status, told = room.request("POST", "/logs/sources/s3/objects", {"prefix": "app/"}, admin)
            self.assertEqual(status, 404, told)

    def test_who_may_do_what_and_keys_that_are_rotated(self):
        with self.room() as room:
            admin = room.key()
            made = room.operation("create-api-key", "--name", "ci", "--role", "administrator", "--scopes", "logs:*", "--scopes", "!logs:destroy")
            room.secrets.add(made["key"])
            _, told = room.request("GET", f"/access?operation=delete_log_source&subject=key:{made['api_key']['id']}", key=admin)
            self.assertEqual((told["items"][0]["allowed"], told["items"][0]["scope"]), (False, "!logs:destroy"), told)
            status, rotated = room.request("POST", f"/api-keys/{made['api_key']['id']}/rotate", {"overlap_seconds": 2}, admin)
            self.assertEqual(status, 200, rotated)
            room.secrets.add(rotated["key"])
            for key in (made["key"], rotated["key"]):
                self.assertEqual(room.request("GET", "/logs/sources", key=key)[0], 200)
            deadline = time.monotonic() + 20
            while room.request("GET", "/logs/sources", key=made["key"])[0] == 200 and time.monotonic() < deadline:
                time.sleep(0.2)
            self.assertEqual(room.request("GET", "/logs/sources", key=made["key"])[0], 401)
            self.assertEqual(room.request("GET", "/logs/sources", key=rotated["key"])[0], 200)
            status, done = room.request("POST", "/audit/export", {"path": "audit.csv", "format": "csv"}, admin)
            self.assertEqual(status, 200, done)
            self.assertEqual(len((room.data / "files/audit.csv").read_text().splitlines()), done["records"] + 1)


if __name__ == "__main__":
    unittest.main()
