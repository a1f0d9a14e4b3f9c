"""Pages to be captured, good ones and bad ones, and pictures as pixels."""

import base64
import http.server
import json
import socket
import struct
import threading
import time
import urllib.parse
import zlib

TOKEN = "glsa_x9Qm2vT7kLp4WzR8"
PASSWORD = "orange-Tractor-42"


def pixels(png):
    """(width, height, a function of x and y that answers red, green and blue) of a PNG of 8 bits a channel."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n", png[:40]
    at, packed = 8, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", data[:10])
        elif kind == b"IDAT":
            packed += data
        at += 12 + length
    assert depth == 8 and colour in (2, 6), (depth, colour)
    step = 3 if colour == 2 else 4
    raw, rows, before = zlib.decompress(packed), [], bytes(width * step)
    for y in range(height):
        start = y * (width * step + 1)
        how, row = raw[start], bytearray(raw[start + 1 : start + 1 + width * step])
        for x in range(width * step if how else 0):
            left = row[x - step] if x >= step else 0
            corner = before[x - step] if x >= step else 0
            if how == 4:
                guess = left + before[x] - corner
                near = [abs(guess - left), abs(guess - before[x]), abs(guess - corner)]
                add = left if near[0] <= near[1] and near[0] <= near[2] else before[x] if near[1] <= near[2] else corner
            else:
                add = [0, left, before[x], (left + before[x]) // 2][how]
            row[x] = (row[x] + add) & 255
        rows.append(row)
        before = row
    return width, height, lambda x, y: tuple(rows[y][x * step : x * step + 3])


def drawn(width, height, colour):
    """A PNG of one colour."""
    raw = b"".join(b"\0" + bytes(colour) * width for _ in range(height))
    part = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(raw)) + part(b"IEND", b"")


# The final colour of each chart, and where its middle is in a window of 1000 by 500.
COLOURS = [((37 * n + 20) % 200, (91 * n + 60) % 200, (53 * n + 120) % 200) for n in range(12)]
MIDDLES = [(20 + 240 * (n % 4) + 110, 20 + 155 * (n // 4) + 70) for n in range(12)]

# Each chart waits, asks, waits for the answer, and is drawn in an animation; until then it is grey.
CHARTS = (
    "<title>Charts</title><style>body{margin:0}canvas{position:absolute;background:#ddd}</style><body><script>"
    "const late = Number(new URLSearchParams(location.search).get('late') || 0);"
    "for (let n = 0; n < 12; n++) { const c = document.createElement('canvas'); c.width = 220; c.height = 140;"
    "c.style.left = 20 + 240 * (n % 4) + 'px'; c.style.top = 20 + 155 * Math.floor(n / 4) + 'px';"
    "document.body.append(c); const g = c.getContext('2d');"
    "setTimeout(async () => { const colour = await (await fetch('/chart/' + n)).json(); const begun = performance.now();"
    "const frame = (now) => { const part = Math.min(1, (now - begun) / 400); g.fillStyle = `rgb(${colour})`;"
    "g.fillRect(0, 140 - 140 * part, 220, 140 * part); if (part < 1) requestAnimationFrame(frame); };"
    "requestAnimationFrame(frame); }, late + 130 * n); }</script>"
)

PAGES = {
    "/charts": CHARTS,
    "/plain": "<title>Plain</title><body style='margin:0;background:#3060c0'><h1>hello</h1>",
    "/login": "<title>Log in</title><form method=post action=/login><input name=user><input name=password type=password><button>Log in</button></form>",
    "/never": "<canvas id=c width=400 height=300></canvas><script>const g = c.getContext('2d');"
    "setInterval(() => { g.fillStyle = `hsl(${Math.random() * 360} 80% 50%)`; g.fillRect(0, 0, 400, 300); }, 30)</script>",
    "/slow-answer": "<p>waits</p><script>fetch('/hangs')</script>",
    "/busy": "<p>busy</p><script>onload = () => setTimeout(() => { for (;;); }, 50)</script>",
    "/crash": "<script>const all = []; for (;;) all.push(new Array(1e6).fill(Math.random()))</script>",
    "/dialogs": "<body style='background:#208040'><script>alert('one'); confirm('two'); prompt('three');"
    "onbeforeunload = () => 'four'; document.title = 'asked'</script>",
    "/saves": "<body style='background:#802040'><a id=a href=/file download>x</a><script>a.click(); open('/plain')</script>",
    "/tall": "<body style='margin:0'><div style='height:2400px;background:linear-gradient(#fff,#000)'></div>"
    "<div id=end style='height:100px'></div><script>new IntersectionObserver((all) => { if (all[0].isIntersecting)"
    " fetch('/chart/3').then(() => end.style.background = 'rgb(10,200,30)') }).observe(end)</script>",
    "/endless": "<script>(async () => { const answer = await fetch('/flood'); for await (const part of answer.body); })()</script>",
}


class Site:
    """Serves the pages on 127.0.0.1; `seen` has every request's path and headers."""

    def __init__(self):
        self.seen = []
        self.renderer = True
        self.stopped = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def asked(self, path):
        return [headers for known, headers in self.seen if known == path]

    def answer(self, it):
        url = urllib.parse.urlsplit(it.path)
        headers = {name.lower(): value for name, value in it.headers.items()}
        self.seen.append((url.path, headers))
        body = it.rfile.read(int(headers.get("content-length", 0)))
        try:
            self.page(it, url, headers, body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def page(self, it, url, headers, body):
        say = lambda data, kind="text/html", status=200, **more: self.say(it, data, kind, status, **more)
        path, query = url.path, dict(urllib.parse.parse_qsl(url.query))
        if path.startswith("/chart/"):
            n = int(path.rsplit("/", 1)[1])
            time.sleep(0.05 + 0.04 * (n * 7 % 12))
            return say(json.dumps(COLOURS[n]), "application/json")
        if path == "/moved-inwards":
            return say("", status=302, Location=f"http://127.0.0.2:{self.port}/plain")
        if path == "/script-inwards":
            return say(f"<script>location = 'http://127.0.0.2:{self.port}/plain'</script>")
        if path == "/members":
            known = f"session={PASSWORD[::-1]}" in headers.get("cookie", "")
            return say(PAGES["/plain"]) if known else say("", status=302, Location="/login")
        if path == "/login" and it.command == "POST":
            given = dict(urllib.parse.parse_qsl(body.decode()))
            if given == {"user": "ada", "password": PASSWORD}:
                return say("", status=303, Location="/plain", **{"Set-Cookie": f"session={PASSWORD[::-1]}; HttpOnly"})
            return say(PAGES["/login"])
        if path == "/token":
            known = headers.get("authorization") == f"Bearer {TOKEN}"
            other = urllib.parse.quote(query.get("other", ""), safe=":/")
            return say(PAGES["/plain"] + f"<img src='{other}'>") if known else say("no", status=401)
        if path == "/basic":
            known = headers.get("authorization") == "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
            return say(PAGES["/plain"]) if known else say("no", status=401, **{"WWW-Authenticate": "Basic realm=x"})
        if path in ("/cookie", "/header"):
            known = TOKEN in headers.get("cookie" if path == "/cookie" else "x-token", "")
            return say(PAGES["/plain"]) if known else say("no", status=403)
        if path == "/file":
            return say("x" * 1000, "application/zip", **{"Content-Disposition": "attachment; filename=all.zip"})
        if path == "/hangs":
            self.stopped.wait(30)
            return None
        if path == "/flood":
            it.send_response(200)
            it.end_headers()
            for _ in range(4096):
                it.wfile.write(b"x" * (1 << 16))
            return None
        if path.startswith(("/api/", "/d/", "/d-solo/", "/render/")):
            return self.grafana(it, path, query, headers)
        if path == "/inwards":
            return say(inwards(query["port"], query["udp"]))
        if path in PAGES:
            return say(PAGES[path])
        return say("nothing", status=404)

    def grafana(self, it, path, query, headers):
        """What a capture asks of a Grafana; its renderer draws before the data, as the real one has done."""
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return self.say(it, '{"message":"Unauthorized"}', "application/json", 401)
        if path == "/api/frontend/settings":
            return self.say(it, json.dumps({"rendererAvailable": self.renderer}), "application/json", 200)
        if path.startswith("/render/"):
            return self.say(it, drawn(int(query["width"]), int(query["height"]), (9, 99, 199)), "image/png", 200)
        panel = lambda title, text, more="": (
            f"<section data-testid='data-testid Panel header {title}' style='height:120px'><h2>{title}</h2>{more}{text}</section>"
        )
        said = query.get("var-host", "none")
        text = (
            "<title>Shop - Grafana</title>"
            + panel("Requests", f"<p>{said}</p>", "<div aria-label='Panel loading bar' id=bar style='height:2px;width:90px;background:blue'></div>")
            + panel("Errors", "<div>No data</div>")
            + panel("Queue", "", "<button data-testid='data-testid Panel status error' aria-label='query timed out'>!</button>")
            + "<script>setTimeout(async () => { await fetch('/chart/5'); bar.remove(); document.body.style.background = 'rgb(30,140,70)' }, 1500)</script>"
        )
        return self.say(it, text, "text/html", 200)

    @staticmethod
    def say(it, data, kind, status, **more):
        data = data.encode() if isinstance(data, str) else data
        it.send_response(status)
        it.send_header("Content-Type", kind)
        it.send_header("Content-Length", str(len(data)))
        for name, value in more.items():
            it.send_header(name.replace("_", "-"), value)
        it.end_headers()
        it.wfile.write(data)


def inwards(port, udp):
    """A page that tries every way in that a page has."""
    places = [f"127.0.0.2:{port}", f"[::1]:{port}", f"2130706434:{port}", f"0x7f000002:{port}", "169.254.169.254", "10.0.0.1"]
    tries = "".join(
        f"fetch('http://{place}/fetch',{{mode:'no-cors'}}).catch(() => 0);new Image().src='http://{place}/image';"
        f"try{{const s=document.createElement('script');s.src='https://{place}/script';document.head.append(s);"
        f"const f=document.createElement('iframe');f.src='http://{place}/frame';document.body.append(f);"
        f"new WebSocket('ws://{place}/socket');navigator.sendBeacon('http://{place}/beacon','x');new EventSource('http://{place}/events')}}catch(e){{}}"
        for place in places
    )
    ice = f"try{{const p=new RTCPeerConnection({{iceServers:[{{urls:'stun:127.0.0.2:{udp}'}},{{urls:'turn:127.0.0.2:{udp}',username:'a',credential:'b'}}]}});p.createDataChannel('x');p.createOffer().then((o)=>p.setLocalDescription(o))}}catch(e){{}}"
    worker = f"try{{new Worker(URL.createObjectURL(new Blob([`fetch('http://127.0.0.2:{port}/worker',{{mode:'no-cors'}}).catch(()=>0)`])))}}catch(e){{}}"
    hints = f"<link rel=dns-prefetch href='//127.0.0.2:{port}'><link rel=preconnect href='http://127.0.0.2:{port}'><link rel=prefetch href='http://127.0.0.2:{port}/hint'>"
    return f"<body style='margin:0;background:rgb(1,2,3)'>{hints}<script>{tries}{ice}{worker}document.title='tried'</script>"


class Canary:
    """Listens on 127.0.0.2 and on ::1, by TCP and UDP; whoever comes is counted."""

    def __init__(self):
        self.came = []
        self.sockets = []
        tcp = socket.create_server(("127.0.0.2", 0))
        self.port = tcp.getsockname()[1]
        self.sockets.append(tcp)
        try:
            self.sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        except OSError:
            pass
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.2", 0))
        self.udp = udp.getsockname()[1]
        self.sockets.append(udp)
        for it in self.sockets:
            threading.Thread(target=self.listen, args=(it,), daemon=True).start()

    def listen(self, it):
        try:
            while True:
                if it.type == socket.SOCK_DGRAM:
                    self.came.append(("udp", it.recv(2048)))
                else:
                    self.came.append(("tcp", it.accept()[1]))
        except OSError:
            pass

    def stop(self):
        for it in self.sockets:
            it.close()
