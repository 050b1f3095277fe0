"""Takes a whole document: compiles it so that it can be changed, and keeps it on disk.

A large one in a process of its own, as `sources/aside.py` does.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from extauthz.core.compile import load_document
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.incremental import IncrementalPolicy, rest_of, subjects_of
from extauthz.core.policy import Policy, SubjectKey
from extauthz.sources.aside import (
    COMPILE_SECONDS,
    STEP,
    begin,
    compiler,
    receive,
    receive_all,
    send,
    send_all,
)
from extauthz.sources.policies import mismatch
from extauthz.sources.stream.lastgood import LastGood, objects_of

_MEND_SERVER: Final = "send the policy of the server that was asked for"
_MEND_DIGEST: Final = "render the document anew"


class Wanted(msgspec.Struct, frozen=True):
    """What a document must be, and where it is kept.

    Args:
        revision: its digest.
        server, namespace: whose it must be.
        store: the file that keeps it; empty: it is kept already.
        now: when it was told, seconds since the epoch.
    """

    revision: str
    server: str
    namespace: str
    store: str = ""
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A document that was taken.

    Args:
        incremental: compiled.
        unkept: why it is not on disk; empty where it is.
    """

    incremental: IncrementalPolicy
    unkept: str


def take_here(raw: bytes, wanted: Wanted) -> Taken:
    """Compile and keep a document, here and now.

    Raises:
        Invalid: it does not validate, or is not the one that is wanted.
    """
    document = load_document(raw)
    # Its parts may have changed since these were written: `wanted.revision` tells.
    document = rest_of(document) | {kind: document.get(kind) for kind in ("grants", "sessions")}
    incremental = IncrementalPolicy.of(document)
    facts = incremental.policy.facts
    if fault := mismatch(facts, PolicyFacts(wanted.server, wanted.namespace), _MEND_SERVER):
        raise fault
    if facts.revision != wanted.revision:
        problem = f"has the digest `{facts.revision}`, not `{wanted.revision}`"
        raise Invalid("$", problem, _MEND_DIGEST)
    return Taken(incremental, _keep(document, incremental, wanted) if wanted.store else "")


def _keep(document: Mapping[str, Any], incremental: IncrementalPolicy, wanted: Wanted) -> str:
    try:
        store = LastGood(Path(wanted.store))
        try:
            objects = objects_of(document, incremental.policy.facts.namespace)
            store.replace(incremental.rest, objects, revision=wanted.revision, now=wanted.now)
        finally:
            store.close()
    except (OSError, sqlite3.Error) as error:
        return str(error)
    return ""


async def take_aside(raw: bytes, wanted: Wanted) -> Taken:
    """The same in another process.

    Raises:
        Invalid: likewise, or that process died.
    """
    argument = msgspec.json.encode(wanted).decode()
    try:
        async with (
            asyncio.timeout(COMPILE_SECONDS),
            compiler(__name__, raw, argument) as stream,
        ):
            fault, unkept, policy, rest = await receive(stream)
            if fault:
                raise Invalid(*fault)
            grants = await receive_all(stream)
            sessions = await receive_all(stream)
            digests = await receive_all(stream)
            joined = await receive(stream)
    except TimeoutError:
        problem = f"was not compiled within `{COMPILE_SECONDS:g}` seconds"
        raise Invalid("$", problem, "give the decision point more processor time") from None
    policy = replace(policy, grants=grants, sessions=sessions)
    return Taken(IncrementalPolicy(policy, rest, digests, joined, await _subjects(policy)), unkept)


async def _subjects(policy: Policy) -> dict[tuple[str, str], SubjectKey]:
    """Who each grant is for; found here, in steps, so that names are in memory once."""
    found: dict[tuple[str, str], SubjectKey] = {}
    grants = iter(policy.grants.items())
    while step := list(islice(grants, STEP)):
        found |= subjects_of(step)
        await asyncio.sleep(0)
    return found


def main(source: BinaryIO, target: BinaryIO, argument: str) -> None:
    """Take the document `source`, and write to `target` what `take_aside` reads."""
    begin()
    try:
        taken = take_here(source.read(), msgspec.json.decode(argument, type=Wanted))
    except Invalid as error:
        send(target, ((error.field, error.problem, error.mend), "", None, None))
    else:
        incremental, policy = taken.incremental, taken.incremental.policy
        send(
            target, (None, taken.unkept, replace(policy, grants={}, sessions={}), incremental.rest)
        )
        send_all(target, policy.grants.items())
        send_all(target, policy.sessions.items())
        send_all(target, incremental.digests.items())
        send(target, incremental.joined)
    target.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer, sys.argv[1])
