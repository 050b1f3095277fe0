"""Compiles a large policy document in a process of its own, and takes it over in small steps.

In a thread, parsing and indexing would hold the interpreter, and every call would wait; so it
would for collecting garbage among the new policy's objects, and for freeing the old one at once.
"""

import asyncio
import gc
import hashlib
import os
import pickle  # what it reads comes from our own child
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO, Final

from extauthz.core.compile import compile_document, load_document
from extauthz.core.errors import Invalid
from extauthz.core.policy import Policy

LARGE_BYTES: Final = 128 * 1024  # a smaller document compiles in the time of a few calls
_STEP: Final = 200  # subjects between two turns of the event loop: about half a millisecond
_NICE: Final = 10  # calls come first
_SIZE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a document says.

    Args:
        digest: SHA-256 of its bytes; empty where they could not be read to the end.
        outcome: the policy, or why there is none.
    """

    digest: bytes
    outcome: Policy | Invalid


def compile_here(file: BinaryIO) -> Compiled:
    """Read and compile a document, here and now."""
    raw = file.read()
    digest = hashlib.sha256(raw).digest()
    try:
        return Compiled(digest, compile_document(load_document(raw)))
    except Invalid as error:
        return Compiled(digest, error)


async def compile_aside(file: BinaryIO) -> Compiled:
    """Read and compile a document in another process."""
    process = await asyncio.create_subprocess_exec(
        # -P: what stands in the working directory must not pass for a module.
        *(sys.executable, "-P", "-m", __name__),
        stdin=file,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    try:
        return await _take_over(process.stdout)
    except asyncio.IncompleteReadError:
        problem = f"could not be compiled: the compiler ended with `{await process.wait()}`"
        return Compiled(b"", Invalid("$", problem, "give the decision point more memory"))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def discard(policy: Policy) -> None:
    """Free a policy that decides no more."""
    for index in (policy.grants, policy.sessions):
        assert isinstance(index, dict)
        while index:
            for _ in range(min(_STEP, len(index))):
                index.popitem()
            await asyncio.sleep(0)


async def _take_over(stream: asyncio.StreamReader) -> Compiled:
    digest, fault, policy = await _receive(stream)
    if fault:
        return Compiled(digest, Invalid(*fault))
    grants = await _receive_all(stream)
    return Compiled(digest, replace(policy, grants=grants, sessions=await _receive_all(stream)))


async def _receive_all(stream: asyncio.StreamReader) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    while step := await _receive(stream):
        found.update(step)
        gc.freeze()  # the collector need not look through what stays
        await asyncio.sleep(0)
    return found


async def _receive(stream: asyncio.StreamReader) -> Any:
    size = int.from_bytes(await stream.readexactly(_SIZE_BYTES))
    return pickle.loads(await stream.readexactly(size))  # noqa: S301


def main(source: BinaryIO, target: BinaryIO) -> None:
    """Compile `source`, and write to `target` what `compile_aside` reads."""
    gc.disable()
    os.nice(_NICE)
    compiled = compile_here(source)
    found = compiled.outcome
    if isinstance(found, Invalid):
        _send(target, (compiled.digest, (found.field, found.problem, found.mend), None))
    else:
        _send(target, (compiled.digest, None, replace(found, grants={}, sessions={})))
        _send_all(target, found.grants.items())
        _send_all(target, found.sessions.items())
    target.flush()


def _send_all(target: BinaryIO, items: Iterable[tuple[Any, Any]]) -> None:
    rest = iter(items)
    while step := list(islice(rest, _STEP)):
        _send(target, step)
    _send(target, [])


def _send(target: BinaryIO, value: object) -> None:
    content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    target.write(len(content).to_bytes(_SIZE_BYTES) + content)


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
