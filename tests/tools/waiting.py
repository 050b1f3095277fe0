"""Waits for a condition, never for a time."""

import asyncio
import inspect
import selectors
import subprocess
import time
from collections.abc import Callable
from typing import Any, Final

SECONDS: Final = 90.0  # then it will not happen any more, on a busy machine too


def eventually(
    holds: Callable[[], Any], what: str, seconds: float = SECONDS, every: float = 0.05
) -> Any:
    """Wait until `holds` returns something true, and return that.

    Raises:
        TimeoutError: saying `what` did not come.
    """
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        _check(deadline, what, seconds)
        time.sleep(every)
    return found


def first_line(process: subprocess.Popen[str], what: str, seconds: float = 2 * SECONDS) -> str:
    """What a process says first; empty where it ended without a word.

    Raises:
        TimeoutError: saying `what` did not come.
    """
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(seconds):
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
    return process.stdout.readline()


async def soon(
    holds: Callable[[], Any], what: str = "", seconds: float = SECONDS, every: float = 0.005
) -> Any:
    """Let other tasks run until `holds` returns something true, and return that.

    Args:
        holds: may be a coroutine function.

    Raises:
        TimeoutError: saying `what` did not come.
    """
    deadline = time.monotonic() + seconds
    while not (found := await _result(holds)):
        _check(deadline, what, seconds)
        await asyncio.sleep(every)
    return found


async def _result(holds: Callable[[], Any]) -> Any:
    told = holds()
    return await told if inspect.isawaitable(told) else told


def _check(deadline: float, what: str, seconds: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"not within {seconds:.0f} s: {what}")
