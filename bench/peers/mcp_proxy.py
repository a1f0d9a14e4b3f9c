"""A proxy and a server of FastMCP, for the gateway's benchmark: `mcp_proxy.py PORT [URL]`. With a URL it is a
proxy to the server there, without one a server with one tool, `echo`."""

import sys

from fastmcp import FastMCP
from fastmcp.server import create_proxy

port = int(sys.argv[1])
if len(sys.argv) > 2:
    server = create_proxy(sys.argv[2], name="proxy")
else:
    server = FastMCP("server")

    @server.tool
    def echo() -> str:
        """Says hello"""
        return "hello"


server.run(transport="http", host="127.0.0.1", port=port, log_level="error", show_banner=False, json_response=True)
