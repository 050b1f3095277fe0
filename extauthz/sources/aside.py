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
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO, Final

from extauthz.core.compile import compile_document, load_document
from extauthz.core.errors import Invalid
from extauthz.core.layered import Layered
from extauthz.core.policy import Policy

LARGE_BYTES: Final = 128 * 1024  # a smaller document compiles in the time of a few calls
STEP: Final = 200  # subjects between two turns of the event loop: about half a millisecond
COMPILE_SECONDS = 120.0  # ten times what a hundred thousand grants take; else it hangs
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
    try:
        async with asyncio.timeout(COMPILE_SECONDS), compiler(__name__, file) as stream:
            return await _take_over(stream)
    except Invalid as died:
        return Compiled(b"", died)
    except TimeoutError:
        problem = f"was not compiled within `{COMPILE_SECONDS:g}` seconds"
        return Compiled(b"", Invalid("$", problem, "see whether its disk answers"))


@asynccontextmanager
async def compiler(
    module: str, document: BinaryIO | bytes, *arguments: str
) -> AsyncIterator[asyncio.StreamReader]:
    """Run a module in another process, on a document; read what it sends.

    Raises:
        Invalid: it ended before it had sent what was waited for.
    """
    process = await asyncio.create_subprocess_exec(
        # -P: what stands in the working directory must not pass for a module.
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE if isinstance(document, bytes) else document,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    if process.stdin and isinstance(document, bytes):
        process.stdin.write(document)
        process.stdin.write_eof()
    try:
        yield process.stdout
    except asyncio.IncompleteReadError:
        problem = f"could not be compiled: the compiler ended with `{await process.wait()}`"
        raise Invalid("$", problem, "give the decision point more memory") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def contents(*indexes: Mapping[Any, Any]) -> list[Any]:
    """All that dictionaries hold: who keeps it frees them at no cost, and it by `let_go`."""
    dictionaries = [
        part
        for index in indexes
        for part in (index.parts if isinstance(index, Layered) else (index,))
    ]
    return [item for each in dictionaries for part in (each, each.values()) for item in part]


async def let_go(kept: list[Any]) -> None:
    """Free in small steps what nobody else holds."""
    while kept:
        del kept[-STEP:]
        await asyncio.sleep(0)


async def _take_over(stream: asyncio.StreamReader) -> Compiled:
    digest, fault, policy = await receive(stream)
    if fault:
        return Compiled(digest, Invalid(*fault))
    grants = await receive_all(stream)
    return Compiled(digest, replace(policy, grants=grants, sessions=await receive_all(stream)))


async def receive_all(stream: asyncio.StreamReader) -> dict[Any, Any]:
    """A dictionary, as `send_all` sent it."""
    found: dict[Any, Any] = {}
    while step := await receive(stream):
        found.update(step)
        gc.freeze()  # the collector need not look through what stays
        await asyncio.sleep(0)
    return found


async def receive(stream: asyncio.StreamReader) -> Any:
    """A value, as `send` sent it."""
    size = int.from_bytes(await stream.readexactly(_SIZE_BYTES))
    return pickle.loads(await stream.readexactly(size))  # noqa: S301


def main(source: BinaryIO, target: BinaryIO) -> None:
    """Compile `source`, and write to `target` what `compile_aside` reads."""
    begin()
    compiled = compile_here(source)
    found = compiled.outcome
    if isinstance(found, Invalid):
        send(target, (compiled.digest, (found.field, found.problem, found.mend), None))
    else:
        send(target, (compiled.digest, None, replace(found, grants={}, sessions={})))
        send_all(target, found.grants.items())
        send_all(target, found.sessions.items())
    target.flush()


def begin() -> None:
    """Set a process up that compiles."""
    gc.disable()
    os.nice(_NICE)


def send_all(target: BinaryIO, items: Iterable[tuple[Any, Any]]) -> None:
    """Write a dictionary's items, in steps."""
    rest = iter(items)
    while step := list(islice(rest, STEP)):
        send(target, step)
    send(target, [])


def send(target: BinaryIO, value: object) -> None:
    """Write one value."""
    content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    target.write(len(content).to_bytes(_SIZE_BYTES) + content)


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
