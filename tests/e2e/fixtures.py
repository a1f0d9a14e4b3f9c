"""Servers that the gateway's tests put behind it, and a relay that shows a key for clients that have none."""

import asyncio
import pathlib
import re
import subprocess
import threading

from room import BINARY

EVERYTHING = pathlib.Path(BINARY).parent / "examples/everything"


class Everything:
    """The fixture on the official SDK, of one era."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __enter__(self):
        self.process = subprocess.Popen([EVERYTHING, *self.arguments], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


class Relay:
    """Hands HTTP/1.1 requests on with a key; everything else in them stays as it is."""

    def __init__(self, url, key):
        self.target = re.fullmatch(r"http://([\d.]+):(\d+)", url).groups()
        self.header = f"Authorization: Bearer {key}\r\n".encode()

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        started = threading.Event()

        async def start():
            self.server = await asyncio.start_server(self.connection, "127.0.0.1", 0, limit=1 << 20)
            self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
            started.set()

        def run():
            self.loop.create_task(start())
            self.loop.run_forever()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        started.wait(10)
        return self

    def __exit__(self, *_):
        def stop():
            self.server.close()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.call_later(0.2, self.loop.stop)

        self.loop.call_soon_threadsafe(stop)
        self.thread.join(10)

    async def connection(self, reader, writer):
        there_reader, there_writer = await asyncio.open_connection(*self.target)

        async def back():
            while piece := await there_reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
            writer.close()

        answers = asyncio.create_task(back())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line, rest = head.split(b"\r\n", 1)
                there_writer.write(line + b"\r\n" + self.header + rest)
                length = re.search(rb"(?im)^content-length: *(\d+)", rest)
                left = int(length.group(1)) if length else 0
                while left:
                    piece = await reader.read(min(left, 1 << 16))
                    if not piece:
                        raise ConnectionError
                    there_writer.write(piece)
                    left -= len(piece)
                await there_writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            there_writer.close()
            answers.cancel()
            writer.close()
