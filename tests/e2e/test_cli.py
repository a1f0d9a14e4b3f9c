"""The commands that need no server, as a shell sees them: exit codes, pipes, colour, and files that mean harm."""

import gzip
import json
import os
import pathlib
import pty
import resource
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

from room import BINARY, LOG, WORK

MB = 1_000_000
# Far above what reading a log takes, far below what holding these files would.
MEMORY = 600 * MB


class Files(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="cli-", dir=WORK))
        (cls.folder / "good.log").write_text(LOG)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    def run_it(self, *arguments, environment=None, **more):
        return subprocess.run(
            [BINARY, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            **more,
        )

    def bounded(self, *arguments):
        limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        return self.run_it(*arguments, preexec_fn=limit)

    def test_exit_codes_say_which_kind_of_failure(self):
        for arguments, code, words in [
            (["detect", "good.log"], 0, ""),
            (["detect", "none.log"], 3, "none.log"),
            (["detect", "good.log", "--session", "("], 2, "session pattern"),
            (["detect", "good.log", "--window", "soon"], 2, "60s"),
            (["detect", "good.log", "--no-such-flag"], 2, "--no-such-flag"),
            (["detect", "good.log", "--format", "csv"], 2, "sequences"),
            (["templates", "none.log"], 3, "none.log"),
            (["no-such-command"], 2, "no-such-command"),
        ]:
            with self.subTest(arguments=arguments):
                done = self.run_it(*arguments)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(words, done.stderr)
                self.assertNotIn("panicked", done.stderr)

    def test_a_reader_that_leaves_ends_the_command_quietly(self):
        (self.folder / "many.log").write_text(LOG * 50)
        for arguments in [["templates", "many.log", "--lines"], ["detect", "many.log", "--json", "--all"]]:
            with self.subTest(arguments=arguments):
                writer = subprocess.Popen(
                    [BINARY, *arguments], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
                writer.stdout.read(10)
                writer.stdout.close()
                told = writer.stderr.read().decode()
                writer.stderr.close()
                writer.wait(60)
                self.assertNotIn("panicked", told)
                self.assertNotIn("Broken pipe", told)

    def on_a_terminal(self, environment):
        control, terminal = pty.openpty()
        child = subprocess.Popen(
            [BINARY, "detect", "good.log"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(control, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
        child.wait(60)
        os.close(control)
        return shown

    def test_colour_is_for_terminals_that_want_it(self):
        self.assertIn(b"\x1b[", self.on_a_terminal({"NO_COLOR": ""}))
        self.assertNotIn(b"\x1b[", self.on_a_terminal({"NO_COLOR": "1"}))
        self.assertNotIn("\x1b[", self.run_it("detect", "good.log").stdout)

    def test_a_line_of_100_mb_is_read_in_bounded_memory(self):
        with open(self.folder / "long.log", "wb") as file:
            file.write(b"2026-01-05 10:00:00 INFO start\n" + b"x" * (100 * MB) + b"\n")
            file.write(b"2026-01-05 10:00:01 INFO end\n" * 50)
        done = self.bounded("detect", "long.log", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["summary"]["lines"], 52)
        self.assertIn("longer than", " ".join(json.loads(done.stdout)["summary"]["warnings"]))

    def test_decompression_bombs_are_refused_or_read_in_bounded_memory(self):
        with gzip.open(self.folder / "line.log.gz", "wb") as file:
            for _ in range(1000):
                file.write(b"a" * MB)
        done = self.bounded("detect", "line.log.gz")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("decompression bomb", done.stderr)
        with gzip.open(self.folder / "lines.log.gz", "wb") as file:
            for _ in range(200):
                file.write(b"2026-01-05 10:00:00 INFO the same again and again\n" * 5000)
        done = self.bounded("templates", "lines.log.gz", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["templates"][0]["count"], MB)

    def test_a_file_that_grows_or_shrinks_while_it_is_read_is_answered(self):
        for change in ["grow", "shrink"]:
            with self.subTest(change=change):
                path = self.folder / f"{change}.log"
                path.write_text(LOG * 200)
                stop = threading.Event()

                def disturb():
                    while not stop.is_set():
                        with open(path, "r+b") as file:
                            if change == "grow":
                                file.seek(0, os.SEEK_END)
                                file.write(LOG.encode())
                            else:
                                size = file.seek(0, os.SEEK_END)
                                file.truncate(max(size - 4000, 1000))
                        time.sleep(0.001)

                thread = threading.Thread(target=disturb)
                thread.start()
                done = self.run_it("detect", path, "--json")
                stop.set()
                thread.join()
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertGreater(json.loads(done.stdout)["summary"]["lines"], 0)
