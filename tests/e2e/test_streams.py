"""Streams through the gate: they last, resume, are left, carry questions, and starve nobody."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml

from tests.tools.sentinel_up import MODERN, Up
from tests.tools.stack import governed
from tests.tools.waiting import SECONDS, eventually

DEMO_ACCESS = Path(__file__).parents[2] / "backend" / "demo" / "access"
LEGACY = "2025-11-25"
ACCEPT = {"Accept": "application/json, text/event-stream"}
AGENT, REVOKED = "stream-agent", "revoked-agent"
ROUTE_TIMEOUT_SECONDS = 15  # Envoy's own default
LISTENERS = 1000  # the reference server admits 1,024
SESSIONS = 40  # with the listeners, more than the 1,024 of Envoy's default circuit breaker
MANY = httpx2.Limits(max_connections=None)


def grant(agent: str, *, disabled: bool = False) -> str:
    """A document that grants every tool."""
    spec = {
        "serverRef": {"name": "reference-server"},
        "subject": {"agentID": agent},
        "maxTrust": "high",
        "disabled": disabled,
    }
    return yaml.safe_dump(
        {
            "apiVersion": "mcpruntime.org/v1alpha1",
            "kind": "MCPAccessGrant",
            "metadata": {"name": agent, "namespace": "mcp-servers"},
            "spec": spec,
        }
    )


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack, its access directory, and where its server tells how calls ended."""

    up: Up
    access: Path
    told: Path

    @property
    def url(self) -> str:
        return self.up.endpoints["mcp"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("streams")
    access = folder / "access"
    shutil.copytree(DEMO_ACCESS, access)
    for agent in (AGENT, REVOKED):
        (access / f"{agent}.yaml").write_text(grant(agent))
    command = (sys.executable, "-m", "tests.tools.watched_server", str(folder))
    with governed(folder, "--access", str(access), "--", *command) as up:
        yield Stack(up, access, folder)


class Session:
    """A legacy session; several of its streams may be open at a time."""

    def __init__(self, url: str, agent: str = AGENT) -> None:
        """Open it."""
        self.url, self.ids = url, count(1)
        headers = {"X-MCP-Agent-ID": agent, **ACCEPT}
        self.client = httpx2.Client(headers=headers, timeout=SECONDS, trust_env=False)
        params = {
            "protocolVersion": LEGACY,
            "capabilities": {"sampling": {}, "elicitation": {}},
            "clientInfo": {"name": "streams", "version": "1"},
        }
        opened = self.post({"id": 0, "method": "initialize", "params": params})
        session_id = opened.headers["mcp-session-id"]
        self.client.headers |= {"Mcp-Session-Id": session_id, "MCP-Protocol-Version": LEGACY}
        assert self.post({"method": "notifications/initialized"}).status_code == 202

    def post(self, message: dict[str, Any]) -> httpx2.Response:
        """Send a message; its answer, once that is whole."""
        return self.client.post(self.url, json={"jsonrpc": "2.0"} | message)

    def announce(self, uri: str) -> None:
        """Have the server send something on the session's own stream."""
        params = {"name": "announce", "arguments": {"uri": uri}}
        answer = self.post({"id": next(self.ids), "method": "tools/call", "params": params})
        assert "announced" in answer.text

    @contextmanager
    def call(self, tool: str, **arguments: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Call a tool; the messages on the call's stream, as they come."""
        params = {"name": tool, "arguments": arguments}
        body = {"jsonrpc": "2.0", "id": next(self.ids), "method": "tools/call", "params": params}
        with self.client.sse(self.url, method="POST", headers=ACCEPT, json=body) as events:
            yield (json.loads(event.data) for event in events if event.data)

    @contextmanager
    def listen(self, last: str = "") -> Iterator[Iterator[httpx2.ServerSentEvent]]:
        """The events on the session's own stream, after the one whose id is `last`."""

        def connect() -> httpx2.EventSource | None:
            # The server admits one such stream a session: the one before must have ended.
            headers = {"Last-Event-ID": last} if last else None
            with ExitStack() as attempt:
                events = attempt.enter_context(self.client.sse(self.url, headers=headers))
                if events.response.status_code == 200:
                    opened.enter_context(attempt.pop_all())
                    return events
            return None

        with ExitStack() as opened:
            events = eventually(connect, "the session's own stream opens")
            yield (event for event in events if event.data)


def uri_of(event: httpx2.ServerSentEvent) -> str:
    return str(json.loads(event.data)["params"]["uri"])


def modern(
    method: str, params: dict[str, Any], agent: str = AGENT, **meta: object
) -> dict[str, Any]:
    """The arguments with which httpx2 sends a modern request."""
    meta |= {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "X-MCP-Agent-ID": agent}
    if "name" in params:
        headers["Mcp-Name"] = params["name"]
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}
    return {"json": body, "headers": headers | ACCEPT, "timeout": SECONDS}


@pytest.fixture(scope="module", autouse=True)
def early(stack: Stack) -> Iterator[tuple[float, Session, Iterator[httpx2.ServerSentEvent]]]:
    """A session's stream that is opened before all others, and when."""
    session = Session(stack.url)
    with session.listen() as events:
        yield time.monotonic(), session, events


def test_a_page_that_rebinds_its_name_is_refused(stack: Stack) -> None:
    """The server's own check of the Host header holds behind the gate."""
    session = Session(stack.url)
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    answers = [
        session.client.post(stack.url, json=ping, headers={"Host": host})
        for host in ("localhost:1", "evil.test")
    ]
    assert [answer.status_code for answer in answers] == [200, 421]


def test_a_session_stream_is_left_and_resumed(stack: Stack) -> None:
    """The server sees that the client left; coming back, it gets what it missed, then the rest."""
    session = Session(stack.url)
    with session.listen() as events:
        session.announce("test://seen")
        seen = next(events)
        assert uri_of(seen) == "test://seen"
        assert session.client.get(session.url).status_code == 409
    session.announce("test://missed")
    with session.listen(last=seen.id) as events:
        assert uri_of(next(events)) == "test://missed"
        session.announce("test://live")
        assert uri_of(next(events)) == "test://live"


def test_progress_comes_while_the_call_runs(stack: Stack) -> None:
    """Each step arrives although the call never ends; left by its client, the call is cancelled."""
    arguments = {"name": "wait_for_ever", "arguments": {"call": "left"}}
    request = modern("tools/call", arguments, progressToken="p")
    with httpx2.Client(trust_env=False) as client:
        with client.sse(stack.url, method="POST", **request) as events:
            told = (json.loads(event.data) for event in events)
            assert [next(told)["params"]["progress"] for _ in range(3)] == [1, 2, 3]
            assert not (stack.told / "left").exists()
        eventually((stack.told / "left").exists, "the call is cancelled")


def test_a_question_to_the_client_is_answered(stack: Stack) -> None:
    """The server's request comes on the call's stream; a POST of its own answers it."""
    session = Session(stack.url)
    with session.call("test_sampling", prompt="2+2?") as messages:
        question = next(messages)
        assert question["method"] == "sampling/createMessage"
        content = {"type": "text", "text": "four"}
        answer = {"role": "assistant", "content": content, "model": "m", "stopReason": "endTurn"}
        assert session.post({"id": question["id"], "result": answer}).status_code == 202
        assert next(messages)["result"]["content"][0]["text"] == "LLM response: four"


def test_revoking_denies_the_next_call_and_cuts_no_stream(stack: Stack) -> None:
    """A call that was allowed goes on, also by the client's answer; the next one is denied."""
    session = Session(stack.url, REVOKED)
    with session.call("test_elicitation", message="who?") as messages:
        question = next(messages)
        assert question["method"] == "elicitation/create"
        (stack.access / f"{REVOKED}.yaml").write_text(grant(REVOKED, disabled=True))
        eventually(lambda: stack.up.reason("echo", REVOKED) == "grant_disabled", "the next call")
        content = {"username": "ann", "email": "ann@example.com"}
        answer = {"action": "accept", "content": content}
        assert session.post({"id": question["id"], "result": answer}).status_code == 202
        assert "ann@example.com" in next(messages)["result"]["content"][0]["text"]


async def test_a_thousand_open_streams_starve_no_call(stack: Stack) -> None:
    """With more open than Envoy's defaults allow, a call is answered, and all hear of it."""
    change = modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})

    async def listen(client: httpx2.AsyncClient, messages: anyio.abc.ObjectSendStream[str]) -> None:
        async with client.sse(stack.url, method="POST", **change) as events:
            async for event in events:
                method = json.loads(event.data)["method"]
                await messages.send(method)
                if method == "notifications/tools/list_changed":
                    return

    async def heard(messages: anyio.abc.ObjectReceiveStream[str], method: str) -> None:
        assert {await messages.receive() for _ in range(LISTENERS)} == {method}

    with ExitStack() as sessions:
        for _ in range(SESSIONS):
            sessions.enter_context(Session(stack.url).listen())
        send, receive = anyio.create_memory_object_stream[str](LISTENERS)
        async with (
            httpx2.AsyncClient(limits=MANY, trust_env=False) as client,
            anyio.create_task_group() as listeners,
        ):
            for _ in range(LISTENERS):
                listeners.start_soon(listen, client, send)
            await heard(receive, "notifications/subscriptions/acknowledged")
            trigger = modern("tools/call", {"name": "test_trigger_tool_change", "arguments": {}})
            answer = await client.post(stack.url, **trigger)
            assert "Listeners were told" in answer.text
            await heard(receive, "notifications/tools/list_changed")


def test_a_stream_outlasts_the_defaults(
    early: tuple[float, Session, Iterator[httpx2.ServerSentEvent]],
) -> None:
    """Older than Envoy's default route timeout, and silent so far, it still carries events."""
    opened, session, events = early
    time.sleep(max(0.0, opened + ROUTE_TIMEOUT_SECONDS + 1 - time.monotonic()))
    session.announce("test://late")
    assert uri_of(next(events)) == "test://late"
