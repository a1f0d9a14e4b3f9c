"""A Docker engine of the tests' own: its data, its socket and its networks are gone with it."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


class Engine:
    """`with Engine() as engine:` starts dockerd in a folder of its own."""

    def __enter__(self):
        # The path of a socket has 107 bytes at most, and containerd puts a long name after it.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ops-engine-", dir="/tmp"))
        self.socket = self.folder / "docker.sock"
        self.process = None
        self.start()
        return self

    def __exit__(self, *_):
        # An engine leaves the bridges of its networks behind.
        for container in self.containers():
            self.docker("rm", "--force", container, check=False)
        for network in self.networks():
            self.docker("network", "rm", network, check=False)
        self.stop()
        # Layers are mounted until the engine has ended.
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        with open(self.folder / "log", "a") as log:
            self.process = self.spawn(log)
        self.wait()

    def spawn(self, log):
        return subprocess.Popen(
            [
                "dockerd", "--data-root", self.folder / "data", "--exec-root", self.folder / "exec",
                "--host", f"unix://{self.socket}", "--pidfile", self.folder / "pid", "--bridge", "none",
                "--containerd-namespace", "ops", "--containerd-plugins-namespace", "ops-plugins",
            ],
            stdout=log, stderr=log, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
        )

    def wait(self):
        deadline = time.monotonic() + 90
        while True:
            done = self.docker("version", "--format", "{{.Server.Version}}", check=False)
            if done.returncode == 0:
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("dockerd did not start:\n" + (self.folder / "log").read_text()[-3000:])
            time.sleep(0.3)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)

    def docker(self, *arguments, check=True, data=None):
        command = ["docker", "--host", f"unix://{self.socket}", *arguments]
        done = subprocess.run(command, capture_output=True, input=data, timeout=120)
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments}: {done.stderr.decode()}")
        return done

    def text(self, *arguments):
        return self.docker(*arguments).stdout.decode().strip()

    def inspect(self, container):
        return json.loads(self.text("inspect", container))[0]

    def containers(self):
        return self.text("ps", "--all", "--quiet", "--no-trunc").split()

    def networks(self):
        names = self.text("network", "ls", "--format", "{{.Name}}").split()
        return [name for name in names if name not in ("host", "none", "bridge")]

    def build(self, tag="echo:1", command=("/server",)):
        """An image with one static program and nothing else."""
        program = self.folder / "server"
        if not program.exists():
            subprocess.run(
                ["rustc", "--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o", program,
                 FIXTURES / "echo_server.rs"],
                check=True, capture_output=True, timeout=300,
            )
        archive = self.folder / "image.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(program, arcname="server")
        changes = [f"CMD {json.dumps(list(command))}"]
        flags = [part for change in changes for part in ("--change", change)]
        return self.text("import", *flags, str(archive), tag)


def zombies(parent):
    """Children of a process that ended and were not waited for."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = stat.read_text().rsplit(")", 1)[1].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state == "Z" and int(ppid) == parent:
            found.append(stat.parent.name)
    return found
