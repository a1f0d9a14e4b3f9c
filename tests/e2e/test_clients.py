"""Clients that others wrote list the tools and call one, over HTTP and over standard input and output."""

import asyncio
import json
import os
import subprocess
import unittest

import httpx2
from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from room import BINARY, LOG, PEERS, Room


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.room = Room().__enter__()
        cls.key = cls.room.key("operator")

    @classmethod
    def tearDownClass(cls):
        cls.room.__exit__()

    def finds_the_fault(self, answer):
        self.assertEqual(answer["summary"]["lines"], 601)
        self.assertIn("req-0137", json.dumps(answer["anomalies"][0]))

    async def with_fastmcp(self, transport):
        async with Client(transport) as client:
            names = {tool.name for tool in await client.list_tools()}
            result = await client.call_tool("detect_anomalies", {"text": LOG})
        self.assertLessEqual({"detect_anomalies", "list_jobs", "get_info"}, names)
        self.finds_the_fault(result.structured_content)

    def test_fastmcp_over_http(self):
        headers = {"Authorization": f"Bearer {self.key}"}
        asyncio.run(self.with_fastmcp(StreamableHttpTransport(self.room.url + "/mcp", headers=headers)))

    def test_fastmcp_over_stdio_beside_a_running_server(self):
        asyncio.run(self.with_fastmcp(StdioTransport(BINARY, ["--data-dir", str(self.room.data), "mcp"])))

    def test_fastmcp_over_stdio_without_a_server(self):
        folder = self.room.folder / "alone"
        asyncio.run(self.with_fastmcp(StdioTransport(BINARY, ["--data-dir", str(folder), "mcp"])))

    def test_the_mcp_package_over_stdio(self):
        async def run():
            server = StdioServerParameters(command=BINARY, args=["--data-dir", str(self.room.data), "mcp"])
            async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
                await session.initialize()
                names = {tool.name for tool in (await session.list_tools()).tools}
                self.assertIn("detect_anomalies", names)
                result = await session.call_tool("detect_anomalies", {"text": LOG})
                self.finds_the_fault(json.loads(result.content[0].text))

        asyncio.run(run())

    def test_the_mcp_package_over_http(self):
        async def run():
            http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {self.key}"}, timeout=60)
            async with http, streamable_http_client(self.room.url + "/mcp", http_client=http) as streams:
                async with ClientSession(streams[0], streams[1]) as session:
                    await session.initialize()
                    names = {tool.name for tool in (await session.list_tools()).tools}
                    self.assertIn("detect_anomalies", names)
                    result = await session.call_tool("detect_anomalies", {"text": LOG})
                    self.finds_the_fault(json.loads(result.content[0].text))

        asyncio.run(run())

    def inspector(self, *arguments):
        node, inspector = PEERS / "node_modules/.bin/node", PEERS / "node_modules/.bin/mcp-inspector"
        command = [str(node), str(inspector), "--cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "NO_COLOR": "1"})
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_the_inspector_over_http(self):
        server = [self.room.url + "/mcp", "--transport", "http", "--header", f"Authorization: Bearer {self.key}"]
        tools = self.inspector(*server, "--method", "tools/list")["tools"]
        self.assertIn("detect_anomalies", {tool["name"] for tool in tools})
        called = ["--method", "tools/call", "--tool-name", "detect_anomalies", "--tool-arg", f"text={json.dumps(LOG)}"]
        self.finds_the_fault(self.inspector(*server, *called)["structuredContent"])

    def test_the_inspector_over_stdio(self):
        server = [BINARY, "--data-dir", str(self.room.data), "mcp"]
        tools = self.inspector(*server, "--method", "tools/list")["tools"]
        self.assertIn("detect_anomalies", {tool["name"] for tool in tools})
        called = ["--method", "tools/call", "--tool-name", "detect_anomalies", "--tool-arg", f"text={json.dumps(LOG)}"]
        self.finds_the_fault(self.inspector(*server, *called)["structuredContent"])

    def test_a_tool_that_is_not_there_and_a_wrong_input_are_told(self):
        async def run():
            headers = {"Authorization": f"Bearer {self.key}"}
            async with Client(StreamableHttpTransport(self.room.url + "/mcp", headers=headers)) as client:
                result = await client.call_tool("detect_anomalies", {"txet": "x"}, raise_on_error=False)
                self.assertTrue(result.is_error)
                self.assertIn("it takes", result.content[0].text)
                with self.assertRaisesRegex(Exception, "no tool"):
                    await client.call_tool("no_such_tool", {})

        asyncio.run(run())


if __name__ == "__main__":
    unittest.main()
