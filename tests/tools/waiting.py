"""Waits for a condition, never for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

SECONDS = 90.0  # then it will not happen any more, on a busy machine too


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


async def soon(holds: Callable[[], Any], what: str = "", seconds: float = SECONDS) -> None:
    """Let other tasks run until `holds`.

    Raises:
        TimeoutError: saying `what` did not come.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        _check(deadline, what, seconds)
        await asyncio.sleep(0.005)


def _check(deadline: float, what: str, seconds: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"not within {seconds:.0f} s: {what}")
