"""What the conformance suite runs as the client under test: a program that makes the suite's server a service
behind the gateway and uses it through the gateway. The server's URL is the last argument; the gateway's is in
OPSROOM_URL, and a key for it in OPSROOM_KEY."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

GATEWAY, KEY, URL = os.environ["OPSROOM_URL"], os.environ["OPSROOM_KEY"], sys.argv[-1]
SCENARIO = os.environ["MCP_CONFORMANCE_SCENARIO"]
CONTEXT = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
NAME = f"suite-{os.getpid()}"
MODERN = "2026-07-28"


def request(method, path, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **(headers or {})}
    asked = urllib.request.Request(GATEWAY + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=40) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return json.loads(error.read() or b"null")


class Client:
    """A client of 2026-07-28 at the service's own endpoint, which answers every form with its defaults."""

    def __init__(self):
        self.next = 0

    def ask(self, method, **params):
        self.next += 1
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
        }
        body = {"jsonrpc": "2.0", "id": self.next, "method": method, "params": {**params, "_meta": meta}}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Accept": "application/json"}
        name = params.get("name") or params.get("uri")
        if name:
            headers["Mcp-Name"] = name
        answer = request("POST", f"/mcp/services/{NAME}", body, headers)
        print(method, name, json.dumps(answer)[:2000])
        if "result" not in answer:
            raise SystemExit(f"{method}: {answer}")
        return answer["result"]

    def call(self, name, **arguments):
        result = self.ask("tools/call", name=name, arguments=arguments)
        while result.get("resultType") == "input_required":
            again = {"inputResponses": {key: form(asked) for key, asked in result["inputRequests"].items()}}
            if "requestState" in result:
                again["requestState"] = result["requestState"]
            # In between, a call that has nothing to do with it.
            if any(tool["name"] == "test_mrtr_unrelated" for tool in self.tools):
                self.ask("tools/call", name="test_mrtr_unrelated", arguments={})
            result = self.ask("tools/call", name=name, arguments=arguments, **again)
        return result

    def list(self):
        self.tools = self.ask("tools/list")["tools"]
        return self.tools


def form(asked):
    fields = asked["params"]["requestedSchema"]["properties"]
    content = {name: field["default"] if "default" in field else field["type"] == "boolean" for name, field in fields.items()}
    return {"action": "accept", "content": content}


def arguments(tool):
    """Something for each argument that a tool needs."""
    examples = {"number": 2, "integer": 2, "string": "x", "boolean": True, "object": {}, "array": []}
    fields = tool["inputSchema"].get("properties", {})
    return {name: examples.get(fields[name].get("type"), 1) for name in tool["inputSchema"].get("required", [])}


def by_the_house(calls):
    """Calls whose arguments the gateway itself repeats in headers."""
    for call in calls:
        path = f"/tools/{NAME}__{call['name']}/execute"
        deadline = time.monotonic() + 20
        while True:
            answer = request("POST", path, {"parameters": call["arguments"]})
            # The catalogue of tools hears of a new service a moment after the gateway.
            if answer.get("success") or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        print(path, json.dumps(answer)[:2000])


def use(client):
    tools = client.list()
    if SCENARIO == "http-custom-headers":
        return by_the_house(CONTEXT["toolCalls"])
    if SCENARIO == "http-standard-headers":
        for resource in client.ask("resources/list")["resources"]:
            client.ask("resources/read", uri=resource["uri"])
        for prompt in client.ask("prompts/list")["prompts"]:
            client.ask("prompts/get", name=prompt["name"])
    if SCENARIO == "json-schema-ref-no-deref":
        return
    if SCENARIO == "http-invalid-tool-headers":
        return by_the_house([{"name": tool["name"], "arguments": arguments(tool)} for tool in tools])
    for tool in tools:
        client.call(tool["name"], **arguments(tool))


def log_in():
    """The gateway begins; what a person would do in a browser is done here."""
    known = {name: CONTEXT[name] for name in ("client_id", "client_secret") if name in CONTEXT}
    begun = request("POST", f"/services/{NAME}/connect", known)
    print("connect", json.dumps(begun)[:1000])
    if not begun.get("success"):
        raise SystemExit("the gateway does not log in")
    try:
        with urllib.request.urlopen(begun["data"]["authorization_url"], timeout=30) as page:
            print("came back", page.status)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"came back {error.code} {error.read().decode()}")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if request("GET", f"/services/{NAME}")["data"]["status"] == "running":
            return
        time.sleep(0.1)


def turned_away():
    """Whether the gateway says that the service wants another login: it looks after its services by itself."""
    if SCENARIO != "auth/authorization-server-migration":
        return False
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if "connect_service" in (request("GET", f"/services/{NAME}")["data"]["reason"] or ""):
            return True
        time.sleep(0.2)
    return False


def use_logged_in(client):
    """Whenever the service wants a login, one is made, until the gateway sees no sense in it."""
    log_in()
    while True:
        try:
            for tool in client.list():
                client.call(tool["name"], **arguments(tool))
            if not turned_away():
                return
        except SystemExit as refused:
            if "connect_service" not in str(refused):
                raise
        log_in()


def main():
    if SCENARIO.startswith("auth/"):
        made = request("POST", "/services", {"name": NAME, "service_type": "cloud", "url": URL, "wait_seconds": 0})
        print(json.dumps(made)[:1000])
        try:
            return use_logged_in(Client())
        finally:
            request("DELETE", f"/services/{NAME}?force=true&wait_seconds=10")
    made = request("POST", "/services", {"name": NAME, "service_type": "cloud", "url": URL, "wait_seconds": 30})
    print(json.dumps(made)[:1000])
    try:
        use(Client())
    finally:
        request("DELETE", f"/services/{NAME}?force=true&wait_seconds=10")


main()
