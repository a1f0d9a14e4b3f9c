"""A server that speaks COS's XML: it checks signatures, pages its lists, gives ranges and checksums, and can
be told to misbehave. It stands for Tencent's servers, which a test cannot reach."""

import bisect
import email.utils
import hashlib
import hmac
import itertools
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

ID, KEY = "AKIDtest", "a-secret-key"


def crc64(data):
    """CRC-64 as COS states it, bit by bit."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0xC96C5795D7870F42 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFFFFFFFFFF


class Cos:
    """`with Cos({"key": b"bytes"}) as cos:` serves on a free port of this machine."""

    def __init__(self, objects):
        self.objects = objects
        self.checksums = {}
        self.requests = []
        self.cut_after = {}  # by key: bytes after which a connection breaks, once
        self.wrong_checksum = set()
        self.archived = set()
        self.busy = 0  # requests that are answered 503 first
        self.skewed = False
        self.after_cut = {}  # by key: what it is once its connection broke; None when it is gone
        self.circles = False  # a list that never ends
        self.sorted = []
        self.page = 1000

    def __enter__(self):
        cos = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                cos.answer(self)

            def do_PUT(self):
                cos.take(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        # Clients that are killed break off.
        self.server.handle_error = lambda *_: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        parsed = urllib.parse.urlsplit(request.path)
        path = urllib.parse.unquote(parsed.path)
        query = dict(urllib.parse.parse_qsl(parsed.query, keep_blank_values=True))
        self.requests.append((path, query, request.headers.get("Range")))
        if self.busy > 0:
            self.busy -= 1
            return self.refuse(request, 503, "SlowDown", "Please reduce your request rate.")
        if self.skewed:
            return self.refuse(request, 403, "RequestTimeTooSkewed", "The time differs too much.")
        if not self.is_signed(request, path, query):
            return self.refuse(request, 403, "SignatureDoesNotMatch", "The signature does not match.")
        if path == "/":
            return self.list(request, query)
        key = path[1:]
        if key not in self.objects:
            return self.refuse(request, 404, "NoSuchKey", "The key does not exist.")
        if key in self.archived:
            return self.refuse(request, 403, "InvalidObjectState", "The object is archived.")
        self.give(request, key)

    def take(self, request):
        path = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)
        data = request.rfile.read(int(request.headers["Content-Length"]))
        if not self.is_signed(request, path, {}):
            return self.refuse(request, 403, "SignatureDoesNotMatch", "The signature does not match.")
        if path[1:] in self.objects and request.headers.get("x-cos-forbid-overwrite") == "true":
            return self.refuse(request, 409, "FileAlreadyExists", "The object is there already.")
        self.objects[path[1:]] = data
        checksum = crc64(data) ^ (1 if path[1:] in self.wrong_checksum else 0)
        self.send(request, 200, b"", {"x-cos-hash-crc64ecma": str(checksum)})

    def is_signed(self, request, path, query):
        """By the documented way, written down a second time."""
        parts = dict(part.split("=", 1) for part in request.headers.get("Authorization", "").split("&") if "=" in part)
        if parts.get("q-ak") != ID:
            return False
        quote = lambda text: urllib.parse.quote(text, safe="-_.~")
        pairs = lambda items: "&".join(f"{k}={v}" for k, v in sorted((quote(k).lower(), quote(v)) for k, v in items))
        listed = {name: request.headers.get(name, "") for name in parts["q-header-list"].split(";") if name}
        text = f"{request.command.lower()}\n{path}\n{pairs(query.items())}\n{pairs(listed.items())}\n"
        start, end = map(int, parts["q-key-time"].split(";"))
        if not start <= time.time() <= end or "host" not in listed:
            return False
        sign_key = hmac.new(KEY.encode(), parts["q-key-time"].encode(), hashlib.sha1).hexdigest()
        to_sign = f"sha1\n{parts['q-sign-time']}\n{hashlib.sha1(text.encode()).hexdigest()}\n"
        signature = hmac.new(sign_key.encode(), to_sign.encode(), hashlib.sha1).hexdigest()
        return hmac.compare_digest(signature, parts["q-signature"])

    def list(self, request, query):
        if len(self.sorted) != len(self.objects):
            self.sorted = sorted(self.objects)
        prefix, marker = query.get("prefix", ""), "" if self.circles else query.get("marker", "")
        at = bisect.bisect_right(self.sorted, marker)
        keys = itertools.islice((key for key in itertools.islice(self.sorted, at, None) if key.startswith(prefix)), self.page + 1)
        page, rest = (keys := list(keys))[: self.page], keys[self.page :]
        quote = lambda text: escape(urllib.parse.quote(text, safe=""))
        contents = "".join(
            f"<Contents><Key>{quote(key)}</Key><LastModified>2025-11-21T12:00:00.000Z</LastModified>"
            f"<ETag>&quot;{self.etag(key)}&quot;</ETag><Size>{len(self.objects[key])}</Size>"
            f"<StorageClass>{'ARCHIVE' if key in self.archived else 'STANDARD'}</StorageClass></Contents>"
            for key in page
        )
        more = f"<IsTruncated>true</IsTruncated><NextMarker>{quote(page[-1])}</NextMarker>" if rest else "<IsTruncated>false</IsTruncated>"
        body = f"<?xml version='1.0'?><ListBucketResult><Name>b</Name><EncodingType>url</EncodingType>{more}{contents}</ListBucketResult>"
        self.send(request, 200, body.encode(), {"Content-Type": "application/xml"})

    def etag(self, key):
        return hashlib.md5(self.objects[key]).hexdigest()

    def give(self, request, key):
        data, etag = self.objects[key], f'"{self.etag(key)}"'
        wanted = request.headers.get("If-Match")
        if wanted and wanted.strip('"') != etag.strip('"'):
            return self.refuse(request, 412, "PreconditionFailed", "The object changed.")
        if key not in self.checksums:
            self.checksums[key] = crc64(data)
        checksum = self.checksums[key] ^ (1 if key in self.wrong_checksum else 0)
        headers = {"ETag": etag, "x-cos-hash-crc64ecma": str(checksum)}
        start, status = 0, 200
        if request.headers.get("Range"):
            start, status = int(request.headers["Range"].removeprefix("bytes=").split("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.cut_after.pop(key, None)
        self.send(request, status, data[start:], headers, cut)

    def refuse(self, request, status, code, message):
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>x</RequestId></Error>"
        self.send(request, status, body.encode(), {"Content-Type": "application/xml"})

    def send(self, request, status, body, headers, cut=None):
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "Date": email.utils.formatdate(usegmt=True)}.items():
            if name not in ("Date",):
                request.send_header(name, value)
        request.end_headers()
        if cut is None:
            request.wfile.write(body)
        else:
            request.wfile.write(body[:cut])
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(2)
        for key in [key for key in self.after_cut if cut is not None and request.path.endswith(urllib.parse.quote(key))]:
            body = self.after_cut.pop(key)
            self.checksums.pop(key, None)
            if body is None:
                del self.objects[key]
            else:
                self.objects[key] = body


def aws():
    """moto, which plays AWS, on a free port and with nothing in it: it has one memory for a whole process."""
    import logging
    import urllib.request

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    server.url = "http://{}:{}".format(*server.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(server.url + "/moto-api/reset", method="POST"), timeout=20).close()
    return server
