"""Training as programs of the first LogRobust server do it, and what a crash or a full disk leaves."""

import asyncio
import functools
import json
import pickle
import random
import re
import resource
import signal
import struct
import subprocess
import time
import unittest
import unittest.mock

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from room import Room

WIDTH, LENGTH = 12, 12
METRICS = {"classification_report", "precision", "recall", "f1_score", "support"}


def sequences(count, salt):
    """Event ids of sequences; those with event 5 or 6 are anomalies."""
    choice = random.Random(salt)
    rows = []
    for at in range(count):
        ids = [1, 2, 1, 3] + [4] * choice.randrange(6)
        odd = at % 3 == 0
        ids.insert(choice.randrange(len(ids)), choice.choice([5, 6]) if odd else 2)
        rows.append((ids, choice.choice([1, 2, 3]) if odd else 0))
    return rows


def npy(path, shape, numbers):
    head = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    body = struct.pack(f"<{len(numbers)}q", *numbers)
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + body)


def arrays(folder, names, rows):
    padded = [number for ids, _ in rows for number in ids + [0] * (LENGTH - len(ids))]
    npy(folder / names[0], (len(rows), LENGTH), padded)
    npy(folder / names[1], f"({len(rows)},)", [label for _, label in rows])


def vector(event):
    return [1.0 if lane == event else 0.1 for lane in range(WIDTH)]


def aliyun(room):
    """The layout of LogRobust, with five unequal clients."""
    folder = room.data / "files"
    arrays(folder, ("data.npy", "label.npy"), sequences(300, 1))
    for client, count in enumerate([150, 120, 120, 90, 60]):
        arrays(folder, (f"fedlog/data_{client}.npy", f"fedlog/label_{client}.npy"), sequences(count, 10 + client))
    pickled = pickle.dumps({event: vector(event) for event in range(1, 7)})
    (folder / "EventId2WordVecter.pickle").write_bytes(pickled)


def table(room, count=300):
    lines = [f"{' '.join(map(str, ids))},{label}" for ids, label in sequences(count, 2)]
    (room.data / "files" / "train.csv").write_text("\n".join(["sequence,label", *lines, ""]))


class Training(unittest.TestCase):
    def has(self, answer, *fields):
        self.assertLessEqual(set(fields), set(answer), answer)

    def test_the_six_tools_in_the_order_of_the_first_servers_example(self):
        async def story(url, key):
            def client():
                return Client(StreamableHttpTransport(url + "/mcp", headers={"Authorization": f"Bearer {key}"}))

            async def call(name, **arguments):
                async with client() as session:
                    return (await session.call_tool(name, arguments)).structured_content

            asked = {"data_type": "aliyun", "learning_rate": 0.02, "batch_size": 64, "num_clients": 6, "gpu_id": 0}
            training = asyncio.create_task(call("train_federated_model", global_epochs=60, local_epochs=2, **asked))
            seen = []
            async with client() as session:
                while not training.done():
                    answer = await session.call_tool("get_training_status", {"model_type": "federated"})
                    status = answer.structured_content["federated"]
                    self.has(status, "status", "progress", "current_epoch", "loss", "accuracy", "f1_score")
                    seen.append(status["progress"])
                    await asyncio.sleep(0.01)
            result = await training
            self.assertEqual(seen, sorted(seen))
            self.assertGreater(len({progress for progress in seen if 0 < progress < 100}), 1, seen)
            fields = "model_save_dir", "loss_history", "accuracy_history", "final_accuracy", "client_reports", "best_scores"
            self.has(result, *fields)
            self.assertEqual((result["clients_used"], len(result["client_reports"]), len(result["loss_history"])), (5, 5, 60))
            for report in result["client_reports"]:
                self.has(report, *METRICS)
                self.has(report["classification_report"], "0", "1", "accuracy", "macro avg", "weighted avg")
            self.assertGreater(result["final_accuracy"], 0.9)

            status = (await call("get_training_status", model_type="federated"))["federated"]
            self.assertEqual((status["status"], status["progress"]), ("completed", 100))
            self.assertEqual(len(status["loss"]), 60)

            data = [[vector(event) for event in ids] for ids in ([1, 2, 1, 2, 3], [1, 2, 1, 5, 3])]
            path = "output/fedlog_aliyun_logs_60e_2locEpoch_0.02lr_64bs_6ws/model_save/model_param0.pkl"
            said = await call("predict_logs", model_path=path, log_data=data, gpu_id=0)
            self.assertEqual((said["predictions"], said["anomaly_flags"]), ([0, 1], [0, 1]))
            for pair in said["probabilities"]:
                self.assertAlmostEqual(sum(pair), 1)

            central = await call("train_centralized_model", learning_rate=0.02, epochs=20, batch_size=32)
            self.has(central, "model_save_path", "loss_history", "accuracy_history", "final_accuracy", "metrics")
            self.has(central["metrics"], *METRICS)
            results = await call("get_training_results")
            self.assertEqual((results["federated"], results["centralized"]), (result, central))
            judged = await call("evaluate_model", model_path=central["model_save_path"], client_id=4)
            self.has(judged, "test_loss", "accuracy", *METRICS)
            self.assertEqual(judged["support"], 60)

        with Room() as room:
            aliyun(room)
            asyncio.run(story(room.url, room.key("operator")))

    def test_the_http_routes_of_the_first_server(self):
        with Room() as room:
            aliyun(room)
            key = room.key("operator")
            room.stop()
            room.environment.update(OPSROOM__COMPATIBILITY__ENABLED="true", OPSROOM__COMPATIBILITY__PORT="0")
            room.start()
            room.url = re.search(r"Older +(http://[\d.:]+\d)", room.greeting).group(1)
            status, index = room.request("GET", "/")
            self.assertEqual((status, index["name"], len(index["endpoints"])), (200, "LogRobust MCP Server", 6))
            route = "/tools/get_training_status?model_type=federated"
            self.assertEqual(room.request("GET", route)[0], 401)
            self.assertEqual(room.request("GET", route, key=key)[1]["federated"]["status"], "idle")
            # With a key for those that know of none.
            room.stop()
            room.environment["OPSROOM__COMPATIBILITY__API_KEY"] = key
            room.start()
            room.url = re.search(r"Older +(http://[\d.:]+\d)", room.greeting).group(1)
            body = {"data_type": "aliyun", "learning_rate": 0.02, "epochs": 3, "gpu_id": -1}
            status, trained = room.request("POST", "/tools/train_centralized_model", body)
            self.assertEqual((status, len(trained["loss_history"])), (200, 3), trained)
            status, told = room.request("GET", "/tools/get_training_status?model_type=centralized")
            self.assertEqual((status, list(told), told["centralized"]["progress"]), (200, ["centralized"], 100))
            status, told = room.request("GET", "/tools/get_training_results")
            self.assertEqual((status, told), (200, {"federated": None, "centralized": trained}))
            body = {"model_path": trained["model_save_path"], "log_data": [[vector(1), vector(5)]]}
            status, said = room.request("POST", "/tools/predict_logs", body)
            self.assertEqual((status, len(said["predictions"])), (200, 1), said)
            status, judged = room.request("POST", "/tools/evaluate_model", {"model_path": trained["model_save_path"]})
            self.assertEqual((status, judged["support"]), (200, 300), judged)
            status, refused = room.request("POST", "/tools/train_centralized_model", {"data_type": "nothing"})
            self.assertEqual(status, 404)
            self.assertIn("nothing", refused["detail"])
            self.assertEqual(room.request("POST", "/tools/predict_logs", {"model_path": "/etc/passwd", "lines": []})[0], 403)
            self.assertEqual(room.request("GET", "/tools/list_models")[0], 404)
            self.assertEqual(room.request("GET", "/", headers={"Host": "evil.example"})[0], 421)

    def start(self, room, key, epochs, **more):
        """A run in the background, once it has finished an epoch: its id, and the status then."""
        status, answer = room.request("POST", "/datasets", {"name": "mine", "path": "train.csv"}, key=key)
        self.assertEqual(status, 200, answer)
        body = {"data_type": "mine", "epochs": epochs, "background": True, "output_dir": "mine", **more}
        status, job = room.request("POST", "/training/centralized", body, key=key)
        self.assertEqual(status, 202, job)
        return job["job_id"], self.wait(room, key, job["job_id"], lambda run: run["current_epoch"] > 0)

    def wait(self, room, key, run, done):
        for _ in range(6000):
            told = room.request("GET", f"/training/status?run_id={run}", key=key)[1]["centralized"]
            if done(told):
                return told
            self.assertEqual(told["status"], "training", told)
            time.sleep(0.01)
        self.fail(told)

    def test_kill_9_in_mid_training_loses_no_finished_epochs_checkpoint(self):
        with Room() as room:
            key = room.key()
            table(room)
            moments = random.Random(4)
            for _ in range(4):
                run, _ = self.start(room, key, 10000, hidden_size=4)
                time.sleep(moments.uniform(0, 0.5))
                told = room.request("GET", f"/training/status?run_id={run}", key=key)[1]["centralized"]
                room.stop(signal.SIGKILL)
                room.start()
                after = room.request("GET", f"/training/status?run_id={run}", key=key)[1]["centralized"]
                self.assertEqual(after["status"], "interrupted", after)
                self.assertIn("start it again", after["error"])
                status, model = room.request("GET", f"/models/details?model_path={told['checkpoint']}", key=key)
                self.assertEqual(status, 200, model)
                self.assertGreaterEqual(len(model["loss_history"]), told["current_epoch"])
                self.assertEqual(model["loss_history"][: len(told["loss"])], told["loss"])
                body = {"model_path": told["checkpoint"], "sequences": ["1 2 1 5 3"]}
                self.assertEqual(room.request("POST", "/models/predict", body, key=key)[0], 200)
                self.assertEqual(room.request("GET", f"/jobs/{run}", key=key)[1]["state"], "interrupted")

    def test_a_full_disk_leaves_the_last_good_checkpoint(self):
        # A process may write no further in a file than its limit allows: to the one who writes, that is a full
        # disk. Only the model's file is longer. The signal that would come with it is ignored.
        patient = functools.partial(subprocess.Popen, restore_signals=False)
        with unittest.mock.patch("room.subprocess.Popen", patient), Room() as room:
            key = room.key()
            table(room)
            run, told = self.start(room, key, 10000, hidden_size=160)
            path = room.data / "models" / told["checkpoint"]
            bound = path.stat().st_size - 1
            for other in room.data.glob("*"):
                if other.is_file():
                    self.assertLess(other.stat().st_size, bound // 2, other)
            resource.prlimit(room.process.pid, resource.RLIMIT_FSIZE, (bound, resource.RLIM_INFINITY))
            ended = self.wait(room, key, run, lambda run: run["status"] != "training")
            self.assertEqual(ended["status"], "error", ended)
            self.assertIn("cannot be written", ended["error"])
            status, model = room.request("GET", f"/models/details?model_path={told['checkpoint']}", key=key)
            self.assertEqual((status, len(model["loss_history"])), (200, ended["current_epoch"]), model)
            self.assertEqual([entry.name for entry in path.parent.iterdir()], [path.name])
            # With room again it goes on as before.
            resource.prlimit(room.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            body = {"data_type": "mine", "epochs": 1, "output_dir": "mine"}
            self.assertEqual(room.request("POST", "/training/centralized", body, key=key)[0], 200)


if __name__ == "__main__":
    unittest.main()
