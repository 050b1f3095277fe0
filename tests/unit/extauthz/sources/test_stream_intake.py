"""Updates without a network: any way of saying a change leads to the same policy."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.core.compile import compile_document
from extauthz.core.decision import PolicyFacts
from extauthz.core.policy import Policy
from extauthz.core.request import Call, Identity
from extauthz.sources.aside import LARGE_BYTES
from extauthz.sources.policies import Policies
from extauthz.sources.stream.counts import Counts
from extauthz.sources.stream.intake import Intake
from extauthz.sources.stream.options import StreamOptions
from protos.gen.policy_stream_pb2 import PolicyUpdate
from tests.tools.scripted_controller import (
    confirmation,
    full,
    increment,
    revision_of,
)
from tests.unit.extauthz.sources.stream_world import document, grant

NAMES = st.sampled_from(["a", "b", "away/c", "d", "e"])


def place(name: str) -> dict[str, str]:
    return {"name": name, "namespace": name.rpartition("/")[0] or "home"}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    subjects = st.sampled_from([{"human_id": "ann"}, {"agent_id": "ops"}, {}])
    grants = [
        place(name) | draw(subjects) | {"disabled": draw(st.booleans())}
        for name in draw(st.lists(NAMES, unique=True))
    ]
    sessions = [
        place(name) | draw(subjects) | {"revoked": draw(st.booleans())}
        for name in draw(st.lists(NAMES, unique=True))
    ]
    policy = {"policy_version": draw(st.sampled_from(["v1", "v2"]))}
    return document(*draw(st.permutations(grants)), sessions=sessions, policy=policy)


def split(update: PolicyUpdate, draw: Any) -> Iterator[PolicyUpdate]:
    """The same update in several messages, its parts anywhere."""
    count = draw(st.integers(1, 3))
    parts = [
        PolicyUpdate(
            nonce=update.nonce, revision=update.revision, base_revision=update.base_revision
        )
        for _ in range(count)
    ]
    parts[draw(st.integers(0, count - 1))].head = update.head
    for name in ("grants", "sessions", "removed_grants", "removed_sessions"):
        for item in getattr(update, name):
            getattr(parts[draw(st.integers(0, count - 1))], name).append(item)
    parts[-1].complete = True
    yield from parts


def described(policy: Policy | None) -> list[Any]:
    """All that decides, in a form that compares."""
    assert policy
    grants = {subject: found.grants for subject, found in policy.grants.items()}
    return [policy.facts, grants, policy.sessions]


def intake(folder: Path) -> tuple[Intake, Policies]:
    policies = Policies(PolicyFacts(server="demo", namespace="home"))
    options = StreamOptions(
        address="127.0.0.1:1",
        server="demo",
        namespace="home",
        gateway="gw",
        store=folder / "last-policy.db",
    )
    return Intake(options, policies, time.time, Counts()), policies


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.data())
def test_any_sequence(data: st.DataObject) -> None:
    """Increments in any split, a restart after them included, end where the whole would."""
    with TemporaryDirectory() as folder:
        asyncio.run(_follow(data, Path(folder)))


async def _follow(data: st.DataObject, folder: Path) -> None:
    taking, policies = intake(folder)
    await taking.load()
    held: dict[str, Any] | None = None
    for nonce in range(data.draw(st.integers(1, 5))):
        after = data.draw(documents())
        if held is None or data.draw(st.integers(0, 5)) == 0:
            [update] = full(after, f"n{nonce}")
        elif revision_of(held) == revision_of(after):
            update = confirmation(after, f"n{nonce}")
        else:
            update = increment(held, after, f"n{nonce}")
        answers = [await taking.take(part) for part in split(update, data.draw)]
        assert answers[:-1] == [None] * (len(answers) - 1)
        assert answers[-1]
        assert (answers[-1].error, answers[-1].revision) == ("", revision_of(after))
        held = after
        assert described(policies.current.policy) == described(compile_document(after))
    await taking.close()
    again, restarted = intake(folder)
    await again.load()
    again.run_kept()
    assert again.unkept is None
    assert described(restarted.current.policy) == described(policies.current.policy)
    await again.close()


def many(count: int, **members: Any) -> dict[str, Any]:
    rules = [{"name": "echo"}, {"name": "erase", "decision": "deny"}]
    grants = [
        grant(f"grant-{number}", agent_id=f"agent-{number % 300}", tool_rules=rules)
        for number in range(count)
    ]
    sessions = [{"name": f"s-{number}", "namespace": "home"} for number in range(count)]
    return document(*grants, sessions=sessions, **members)


async def test_large_documents(tmp_path: Path) -> None:
    """A document that compiles aside takes changes as one that compiled here, small and large."""
    first = many(1500)
    second = document(*first["grants"][1:], grant("new"), sessions=first["sessions"])
    third = document(
        *({**each, "max_trust": "low"} for each in second["grants"]), sessions=first["sessions"]
    )
    taking, policies = intake(tmp_path)
    await taking.load()
    messages = full(first, "1", parts=4)
    assert sum(message.ByteSize() for message in messages) > LARGE_BYTES
    large = increment(second, third, "3")
    assert large.ByteSize() > LARGE_BYTES
    for expected, updates in (
        (first, messages),
        (second, [increment(first, second, "2")]),
        (third, [large]),
        (first, full(first, "4")),
    ):
        answer = None
        for message in updates:
            answer = await taking.take(message)
        assert answer
        assert (answer.error, answer.revision) == ("", revision_of(expected))
        assert described(policies.current.policy) == described(compile_document(expected))
    bad = many(1500, tools=[{}])
    [update] = full(bad, "5")
    answer = await taking.take(update)
    assert answer
    assert answer.error == "$.tools[0].name: is required; set `name`"
    await taking.close()
    again, restarted = intake(tmp_path)
    await again.load()
    again.run_kept()
    assert described(restarted.current.policy) == described(compile_document(first))
    await again.close()


async def test_calls_under_way(tmp_path: Path) -> None:
    """A thread that decides meanwhile sees one document or the other, never a part of each."""
    call = Call(method="tools/call", tool="echo", rpc_id=1)
    # Each document lets one of the two call, by three grants; a mixture would let both, or none.
    one, two = (
        document(
            *(grant(f"g{n}", agent_id=agent, tool_rules=[{"name": "echo"}]) for n in range(40)),
            sessions=[{"name": agent, "namespace": "home"}],
        )
        for agent in ("ann", "bob")
    )
    taking, policies = intake(tmp_path)
    await taking.load()
    assert await taking.take(*full(one, "0"))
    seen: set[tuple[bool, ...]] = set()
    done = threading.Event()

    def decide() -> None:
        while not done.is_set():
            snapshot = policies.current
            seen.add(
                tuple(
                    snapshot.decide_call(call, Identity(agent_id=agent), None, 0.0).effect
                    == "allow"
                    for agent in ("ann", "bob")
                )
            )

    deciding = threading.Thread(target=decide)
    deciding.start()
    try:
        held = one
        for nonce in range(1, 200):
            after = two if held is one else one
            update = (
                full(after, str(nonce))[0] if nonce % 7 == 0 else increment(held, after, str(nonce))
            )
            answer = await taking.take(update)
            assert answer
            assert answer.error == ""
            held = after
    finally:
        done.set()
        deciding.join()
        await taking.close()
    assert seen == {(True, False), (False, True)}


async def test_a_change_keeps_what_it_does_not_name(tmp_path: Path) -> None:
    """An increment's head replaces the head alone."""
    before = document(grant("a"), sessions=[{"name": "s", "namespace": "home"}])
    after = before | {"policy": {"mode": "observe"}}
    taking, policies = intake(tmp_path)
    await taking.load()
    await taking.take(*full(before, "1"))
    update = increment(before, after, "2")
    assert json.loads(update.head)["policy"] == {"mode": "observe"}
    assert not update.grants
    await taking.take(update)
    policy = policies.current.policy
    assert policy
    assert (policy.observe, len(policy.grants), len(policy.sessions)) == (True, 1, 1)
    await taking.close()
