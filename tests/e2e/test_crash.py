"""`kill -9` at any moment: what was running is interrupted, and nothing else is lost."""

import json
import random
import signal
import time
import unittest

from room import LOG, Room


class Crash(unittest.TestCase):
    def test_kill_9_of_a_running_job_loses_nothing_else(self):
        moments = random.Random(8)
        with Room() as room:
            key = room.key()
            made = []
            for _ in range(8):
                name = f"key-{len(made)}"
                made.append(room.request("POST", "/api-keys", {"name": name, "role": "viewer"}, key=key)[1]["api_key"]["id"])
                body = {"text": LOG * 10, "background": True}
                status, job = room.request("POST", "/logs/anomalies", body, key=key)
                self.assertEqual(status, 202, job)
                time.sleep(moments.uniform(0, 0.5))
                room.stop(signal.SIGKILL)
                room.start()
                _, after = room.request("GET", f"/jobs/{job['job_id']}", key=key)
                self.assertIn(after["state"], ("interrupted", "succeeded"), after)
                if after["state"] == "succeeded":
                    self.assertTrue(after["result"]["anomalies"])
            listed = {item["id"] for item in room.request("GET", "/api-keys?limit=100", key=key)[1]["items"]}
            self.assertLessEqual(set(made), listed)
            verdict = json.loads(room.command("verify-audit").stdout)
            self.assertTrue(verdict["intact"], verdict)

    def test_a_signal_ends_the_server_in_good_order(self):
        with Room() as room:
            key = room.key()
            room.request("POST", "/logs/anomalies", {"text": LOG * 10, "background": True}, key=key)
            self.assertEqual(room.stop(signal.SIGTERM), 0)
            room.start()
            states = {job["state"] for job in room.request("GET", "/jobs", key=key)[1]["items"]}
            self.assertLessEqual(states, {"succeeded", "cancelled"})

    def test_two_servers_do_not_share_a_data_folder(self):
        with Room() as room:
            second = room.command("serve", "--port", "0", check=False)
            self.assertEqual(second.returncode, 5)
            self.assertIn("another opsroom", second.stderr)


if __name__ == "__main__":
    unittest.main()
