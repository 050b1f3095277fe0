"""Policy source `file`: one policy.json, as mounted from a ConfigMap or rendered by hand."""

import asyncio
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from extauthz.core.accessdir import Listing, settled, signature
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.manifests import Fault
from extauthz.core.policy import Policy
from extauthz.sources.aside import (
    LARGE_BYTES,
    Compiled,
    compile_aside,
    compile_here,
    contents,
    let_go,
)
from extauthz.sources.policies import Policies, mismatch

_MEND_SERVER: Final = "mount the policy of the server that runs here"


class FileSource:
    """Keeps `policies` to what a policy document says; the last good one when it breaks.

    Args:
        path: the document.
        policies: where the snapshot goes.
        expected: the server that is governed here; a document for another one is refused.
            Empty names match any.
        clock: seconds since the epoch.
        settle_seconds: how long a change must stand before it counts.
    """

    recursive = False

    def __init__(
        self,
        path: Path,
        policies: Policies,
        *,
        expected: PolicyFacts,
        clock: Callable[[], float],
        settle_seconds: float,
    ) -> None:
        self._path, self._policies, self._expected = path, policies, expected
        self._clock, self._settle_seconds = clock, settle_seconds
        self._seen: Listing = {}
        self._digest = b""
        self._fault: tuple[Fault, ...] = ()  # what is wrong with the content last read

    @property
    def name(self) -> str:
        return f"file {self._path}"

    def folders(self) -> set[Path]:
        """Where a change shows: beside the file, and beside what it links to."""
        return {self._path.parent, self._path.resolve().parent}

    async def look(self) -> None:
        """Read the document if it changed, and run it if it is valid."""
        try:
            compiled = await self._compile()
        except OSError as error:
            fault = self._fault_of("", f"cannot be read ({error.strerror})", "put the file there")
            self._seen = {}
            self._policies.report((fault,))
            return
        now = self._clock()
        if compiled is not None and (compiled.digest != self._digest or not compiled.digest):
            self._digest = compiled.digest
            await self._adopt(compiled.outcome, now)
        self._policies.report(self._fault)
        running = self._policies.current.policy
        if running and not running.generated_at and not self._fault:
            self._policies.confirm(now)  # without a date it is as old as the last look

    async def _compile(self) -> Compiled | None:
        """What the file says; None where it has not changed."""
        while True:
            seen = await asyncio.to_thread(settled, self._scan, self._seen, self._settle_seconds)
            if seen == self._seen and None not in seen.values():
                return None
            # A pipe would be waited for without end.
            if not stat.S_ISREG(self._path.stat().st_mode):
                raise OSError(errno.EINVAL, "is no regular file")
            with self._path.open("rb") as file:
                before = os.fstat(file.fileno())
                if before.st_size > LARGE_BYTES:
                    compiled = await compile_aside(file)
                else:
                    compiled = await asyncio.to_thread(compile_here, file)
                after = os.fstat(file.fileno())
            # Another file may be there by now: that is for the next look, or one that changes
            # faster than it compiles would never run.
            if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
                self._seen = seen if compiled.digest else {}  # without one: try again
                return compiled

    async def _adopt(self, outcome: Policy | Invalid, now: float) -> None:
        """Run the policy, and let go of the one before it."""
        fault = (
            outcome
            if isinstance(outcome, Invalid)
            else mismatch(outcome.facts, self._expected, _MEND_SERVER)
        )
        if fault:
            self._fault = (self._fault_of(fault.field, fault.problem, fault.mend),)
            return
        assert isinstance(outcome, Policy)
        self._fault = ()
        before = self._policies.current.policy
        kept = contents(before.grants, before.sessions) if before else []
        del before
        self._policies.run(outcome, confirmed_at=outcome.generated_at or now, now=now)
        if self._policies.current.policy is not outcome:  # it says the same: nobody has seen it
            kept = contents(outcome.grants, outcome.sessions)
            for index in (outcome.grants, outcome.sessions):
                assert isinstance(index, dict)
                index.clear()
        await let_go(kept)

    def _scan(self) -> Listing:
        return {self._path: signature(self._path)}

    def _fault_of(self, field: str, problem: str, mend: str) -> Fault:
        return Fault(str(self._path), 0, field, problem, mend)
