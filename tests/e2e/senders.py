"""Servers of others for the tests of logs: OpenSSH, Azurite, rsyslog; and a wire that breaks."""

import base64
import email.utils
import getpass
import hashlib
import hmac
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

PEERS = pathlib.Path(os.environ["OPSROOM_PEERS"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certificates(folder):
    """An authority and what it signed, as PEM files: `ca`, `server` and `client`, and their keys."""
    # Without the machine's own configuration, which makes of every certificate one of an authority.
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n")
    openssl = ["openssl", "req", "-config", folder / "openssl.cnf", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    openssl += ["-pkeyopt", "ec_paramgen_curve:P-256"]
    ca = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    for name, more in (
        ("ca", ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"]),
        ("server", [*ca, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]),
        ("client", [*ca, "-addext", "extendedKeyUsage=clientAuth"]),
    ):
        files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem", "-subj", f"/CN={name}"]
        subprocess.run([*openssl, *files, *more], check=True, capture_output=True)


class Process:
    """A process with a folder of its own, that answers on a port of this machine before the test goes on."""

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="peer-", dir=os.environ["OPSROOM_WORK"]))
        self.port = free_port()
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.begin(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self.is_there():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError("it did not start:\n" + (self.folder / "log").read_text())
            time.sleep(0.05)
        return self

    def is_there(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


class Ssh(Process):
    """OpenSSH with SFTP for this user, by a key."""

    def begin(self):
        for name in ("host", "user", "other"):
            path = self.folder / name
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        self.user = getpass.getuser()
        self.key = (self.folder / "user").read_text()
        self.host_key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        self.files = self.folder / "files"
        self.files.mkdir()
        config = self.folder / "config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/user.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
        )
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        return [shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin"), "-D", "-e", "-f", str(config)]


class Azurite(Process):
    """Microsoft's own emulator of Azure Blob Storage, with one container."""

    account = "devstoreaccount1"
    # The key that every Azurite has; it is in its documentation.
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def begin(self):
        modules = PEERS / "node_modules"
        script = modules / "azurite/dist/src/blob/main.js"
        flags = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--inMemoryPersistence", "--silent"]
        return [str(modules / "node/bin/node"), str(script), *flags, "--disableTelemetry"]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/{self.account}"

    def put(self, path, body=b"", query="", blob=True):
        """Shared Key as it is documented, written down a second time."""
        place = f"/{self.account}/{urllib.parse.quote(path)}"
        own = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        if blob:
            own["x-ms-blob-type"] = "BlockBlob"
        canonical = "".join(f"{name}:{value}\n" for name, value in sorted(own.items()))
        resource = f"/{self.account}{place}" + "".join(f"\n{part.replace('=', ':')}" for part in sorted(query.split("&")) if part)
        length = str(len(body)) if body else ""
        text = f"PUT\n\n\n{length}\n\napplication/octet-stream\n\n\n\n\n\n\n{canonical}{resource}"
        signature = base64.b64encode(hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()).decode()
        headers = {**own, "Authorization": f"SharedKey {self.account}:{signature}", "Content-Type": "application/octet-stream"}
        url = f"http://127.0.0.1:{self.port}{place}" + (f"?{query}" if query else "")
        urllib.request.urlopen(urllib.request.Request(url, data=body, method="PUT", headers=headers), timeout=30).close()


class Rsyslog(Process):
    """rsyslog that takes what `logger` writes to a socket and sends it on over TCP, or over TLS with the files of
    `certificates`."""

    def __init__(self, to, config="", tls=None):
        self.to = to
        self.config = config
        self.tls = ""
        if tls:
            self.config += (
                f'\nglobal(DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="{tls}/ca.pem" '
                f'DefaultNetstreamDriverCertFile="{tls}/client.pem" DefaultNetstreamDriverKeyFile="{tls}/client.key")'
            )
            self.tls = ' StreamDriver="gtls" StreamDriverMode="1" StreamDriverAuthMode="x509/certvalid"'

    def begin(self):
        self.socket = self.folder / "socket"
        config = self.folder / "config"
        config.write_text(
            f'global(workDirectory="{self.folder}")\n{self.config}\n'
            'module(load="imuxsock" SysSock.Use="off")\n'
            f'input(type="imuxsock" Socket="{self.socket}")\n'
            f'action(type="omfwd" Target="127.0.0.1" Port="{self.to}" Protocol="tcp" TCP_Framing="octet-counted" '
            f'Template="RSYSLOG_SyslogProtocol23Format" action.resumeRetryCount="-1" action.resumeInterval="1"{self.tls})\n'
        )
        program = shutil.which("rsyslogd", path=os.environ["PATH"] + ":/usr/sbin")
        return [program, "-n", "-f", str(config), "-i", str(self.folder / "pid")]

    def is_there(self):
        return self.socket.exists()


class Wire:
    """A port that leads to another one. The connection breaks once, after so many bytes of the answers."""

    def __init__(self, to, after):
        self.to, self.after = to, after
        self.broke = False

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            threading.Thread(target=self.carry, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self.carry, args=(far, near, True), daemon=True).start()

    def carry(self, one, other, answers):
        seen = 0
        try:
            while piece := one.recv(65536):
                seen += len(piece)
                if answers and not self.broke and seen > self.after:
                    self.broke = True
                    break
                other.sendall(piece)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
