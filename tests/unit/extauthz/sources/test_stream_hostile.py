"""The stream source against a controller that does everything wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from extauthz.sources.policies import Reload
from protos.gen.policy_stream_pb2 import ObjectKey, PolicyUpdate
from tests.tools.scripted_controller import (
    ScriptedController,
    Session,
    confirmation,
    full,
    increment,
    revision_of,
)
from tests.tools.waiting import soon
from tests.unit.extauthz.sources.stream_world import ALLOWED, World, document, grant

OPEN, CLOSED = document(grant("ops")), document()
OTHER = document(grant("ops"), server={"name": "other", "namespace": "home"})
ELSEWHERE = document(grant("ops"), server={"name": "demo", "namespace": "away"})
DIGEST = revision_of(CLOSED)


def changed(update: PolicyUpdate, **members: Any) -> PolicyUpdate:
    for name, value in members.items():
        setattr(update, name, value)
    return update


def whole(**members: Any) -> PolicyUpdate:
    """A whole document in one message, with other members than it should have."""
    [update] = full(CLOSED, "bad")
    return changed(update, **members)


def with_grants(*parts: bytes) -> PolicyUpdate:
    [update] = full(CLOSED, "bad")
    update.grants.extend(parts)
    return update


def step(*parts: bytes, **members: Any) -> PolicyUpdate:
    """An increment on what runs, with other grants than it should have."""
    update = changed(increment(OPEN, CLOSED, "bad"), **members)
    update.grants.extend(parts)
    return update


def without_digest_between() -> list[PolicyUpdate]:
    first, second = full(CLOSED, "bad", parts=2)
    return [first, changed(second, revision=revision_of(OPEN))]


BAD: dict[str, tuple[Callable[[], list[PolicyUpdate]], str]] = {
    "another digest": (lambda: [whole(revision=revision_of(OPEN))], "$: has the digest `sha256:"),
    "no digest": (lambda: [whole(revision="")], "revision: is missing"),
    "digests differ": (without_digest_between, "revision: differs within one update"),
    "no nonce": (lambda: [whole(nonce="")], "nonce: `` is not new"),
    "an old nonce": (lambda: [whole(nonce="good")], "nonce: `good` is not new"),
    "no head": (lambda: [whole(head=b"")], "head: is no JSON object with members"),
    "two heads": (
        lambda: [whole(complete=False), whole()],
        "head: stands twice in one update; send it once",
    ),
    "head is no JSON": (lambda: [whole(head=b'{"a": nope}')], "$: not one JSON document"),
    "head is a list": (lambda: [whole(head=b'[{"a":1}')], "$: not one JSON document"),
    "head with grants": (
        lambda: [whole(head=b'{"grants":[]}')],
        "$: the same key stands twice in one object",
    ),
    "grant is no JSON": (lambda: [with_grants(b"{")], "$: not one JSON document"),
    "grant breaks out": (
        lambda: [with_grants(b'{}],"sessions":[')],
        "$: ",
    ),
    "grant of a huge trust": (
        lambda: [with_grants(json.dumps(grant("a", max_trust="huge")).encode())],
        "$.grants[0].max_trust: unknown value `huge`",
    ),
    "another server": (
        lambda: full(OTHER, "bad"),
        "$.server.name: `other` is not `demo`, which is governed here",
    ),
    "another namespace": (lambda: full(ELSEWHERE, "bad"), "$.server.namespace: `away` is not"),
    "removals from nothing": (
        lambda: [
            PolicyUpdate(
                nonce="bad", revision=DIGEST, complete=True, removed_grants=[ObjectKey(name="x")]
            )
        ],
        "base_revision: is empty, and something is removed",
    ),
    "an unknown base": (
        lambda: [increment(OTHER, CLOSED, "bad")],
        "base_revision: changes `sha256:",
    ),
    "confirms another one": (
        lambda: [confirmation(CLOSED, "bad")],
        "base_revision: changes `sha256:",
    ),
    "increment of another digest": (
        lambda: [step(revision=revision_of(OTHER))],
        "$: the change leads to `sha256:",
    ),
    "increment is no JSON": (lambda: [step(b"nope")], "$.grants[0]: not one JSON document"),
    "increment is a list": (lambda: [step(b"[]")], "$.grants[0]: must be a JSON object"),
    "increment of a huge trust": (
        lambda: [step(json.dumps(grant("a", max_trust="huge")).encode())],
        "$.grants[0].max_trust: unknown value `huge`",
    ),
    "increment to another server": (
        lambda: [step(head=json.dumps(OTHER | {"grants": None}).encode())],
        "$.server: names another server",
    ),
    "increment of a broken head": (lambda: [step(head=b"{}")], "$.server.name: is required"),
    "too large": (
        lambda: [step(*[b'"%d"' % n + b" " * 60_000 for n in range(20)])],
        "$: the update is larger than `1048576` bytes; raise POLICY_STREAM_MAX_BYTES",
    ),
    "too many parts": (
        lambda: [step(*[b""] * 40_000)],
        "$: the update is larger than `1048576` bytes",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_updates(name: str, tmp_path: Path) -> None:
    """Each is refused with the reason, changes nothing, and the next good one runs."""
    bad, reason = BAD[name]
    seen: list[str] = []

    async def script(session: Session) -> None:
        seen.append((await session.tell(*full(OPEN, "good"))).error)
        answer = await session.tell(*bad())
        seen.append(answer.error)
        assert answer.revision == revision_of(OPEN)
        await soon(lambda: world.faults, "the fault is reported")
        seen.append(world.faults)
        seen.append(world.decide())
        seen.append((await session.tell(increment(OPEN, CLOSED, "next"))).error)
        seen.append("end")
        await session.hold()

    async with ScriptedController(script) as controller:
        world = World(controller.port, tmp_path, max_document_bytes=1024 * 1024)
        async with world.running():
            await soon(lambda: "end" in seen, str(seen))
            await world.mended()
            assert world.decide() == "deny no_matching_grant"
    assert seen[1].startswith(reason), seen[1]
    assert seen[2] == f"{world.source.name}: {seen[1]}"
    assert (seen[0], seen[3], seen[4]) == ("", ALLOWED, "")
    assert world.policies.reloads[Reload.FAILURE] == 1


async def test_a_refused_update_is_passed_over_to_its_end(tmp_path: Path) -> None:
    """It is answered once, however many messages of it follow."""
    first, second, third = full(OPEN, "1", parts=3)
    answers = []

    async def script(session: Session) -> None:
        answers.append(await session.tell(first, changed(second, revision="x"), third))
        answers.append(await session.tell(*full(OPEN, "2")))
        await session.hold()

    async with (
        ScriptedController(script) as controller,
        World(controller.port, tmp_path).running() as world,
    ):
        await world.decides(ALLOWED)
        await soon(lambda: len(answers) == 2)
    assert [(answer.nonce, bool(answer.error)) for answer in answers] == [("1", True), ("2", False)]


async def test_another_update_in_the_middle(tmp_path: Path) -> None:
    """An update that another one interrupts is dropped; the other one runs."""
    begun, _ = full(CLOSED, "1", parts=2)

    async def script(session: Session) -> None:
        answer = await session.tell(begun, *full(OPEN, "2"))
        assert (answer.nonce, answer.error) == ("2", "")
        await session.hold()

    async with (
        ScriptedController(script) as controller,
        World(controller.port, tmp_path).running() as world,
    ):
        await world.decides(ALLOWED)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (b"\xff\xff\xff\xff", "sent what is no policy update; set POLICY_STREAM to a controller"),
        (b"\x00" * 70_000, "raise POLICY_STREAM_MAX_MESSAGE_BYTES"),
    ],
)
async def test_messages_that_end_the_stream(message: bytes, fault: str, tmp_path: Path) -> None:
    """Garbage and giants end the stream; what runs goes on, and another stream mends it."""

    async def script(session: Session) -> None:
        if len(controller.sessions) == 1:
            await session.tell(*full(OPEN, "1"))
            await session.send(message)
        elif fault in world.source.describe()["last_error"]:
            await session.tell(confirmation(OPEN, "1"))
        await session.hold()

    async with ScriptedController(script) as controller:
        world = World(controller.port, tmp_path, max_message_bytes=64 * 1024)
        async with world.running():
            await soon(lambda: len(controller.sessions) > 1)
            await world.mended()
            assert world.decide() == ALLOWED


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (
            grpc.StatusCode.UNAUTHENTICATED,
            "does not take the token (UNAUTHENTICATED: told why); project one for audience "
            "mcp-sentinel-controller into POLICY_STREAM_TOKEN_FILE",
        ),
        (
            grpc.StatusCode.PERMISSION_DENIED,
            "does not give out the policy of `home/demo` (PERMISSION_DENIED: told why); run it in "
            "a pod of that server, or mend MCP_SERVER_NAME and MCP_SERVER_NAMESPACE",
        ),
        (
            grpc.StatusCode.NOT_FOUND,
            "knows no MCPServer `home/demo` (NOT_FOUND: told why); create it, or mend",
        ),
        (grpc.StatusCode.UNIMPLEMENTED, "has no policy stream (UNIMPLEMENTED: told why); set POL"),
        (grpc.StatusCode.UNAVAILABLE, "cannot be reached (UNAVAILABLE: told why); is it up"),
        (grpc.StatusCode.INTERNAL, "broke the stream (INTERNAL: told why); is it up"),
    ],
)
async def test_statuses(code: grpc.StatusCode, fault: str, tmp_path: Path) -> None:
    """What the controller refuses by is told with the mend, and tried again until it is mended."""

    async def refuse(session: Session) -> None:
        await session.refuse(code, "told\nwhy")

    async def serve(session: Session) -> None:
        await session.tell(*full(OPEN, "1"))
        await session.hold()

    async with (
        ScriptedController(refuse) as controller,
        World(controller.port, tmp_path).running() as world,
    ):
        await world.faulty(f"stream 127.0.0.1:{controller.port}: {fault}")
        assert world.policies.current.fault.startswith("stream 127.0.0.1:")
        controller.script = serve
        await world.decides(ALLOWED)
        await world.mended()
    assert world.policies.reloads[Reload.FAILURE] == 1
