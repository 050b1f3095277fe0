"""What is done to `sentinel up`."""

import asyncio
import os
from collections.abc import Sequence, Set
from functools import partial

from envoy_bootstrap.process import Admin

from tests.chaos import moments
from tests.chaos.embedded import BACKEND, POINT, Embedded
from tests.chaos.faults import (
    DURABLE,
    Fault,
    all_decided,
    away,
    clock_back,
    poison,
    send_old_events,
)
from tests.tools.waiting import soon

TRIES = 6  # to hit a moment


async def kill_decision_point(up: Embedded) -> str:
    async with up.gateway.outage():
        await up.kill_point()
    return "at a random moment"


async def kill_backend(up: Embedded) -> str:
    await up.kill_backend()
    await all_decided(up)
    await up.backend_ready()
    return "at a random moment"


async def kill_supervisor(up: Embedded) -> str:
    await up.kill_supervisor()
    return "and all its programs with it"


async def kill_before_commit(up: Embedded) -> str:
    """The log is held, so that the processor inserts and cannot commit; then it dies."""
    for _ in range(TRIES):
        _, last = up.offsets()
        await soon(lambda end=last: up.offsets()[1] > end, "the log grows")  # type: ignore[misc]
        with up.log_held():
            before = moments.inserted(up.store).keys()
            for _ in range(300):
                await asyncio.sleep(0.01)
                found = moments.inserted(up.store)
                if found.keys() - before:
                    break
            else:
                continue
            pid = up.pid(BACKEND)
            moments.stand_still(pid)
            committed, last = up.offsets()
            await up.kill_backend(pid)
        rows = sum(count for name, count in found.items() if name not in before)
        assert committed <= last
        await up.backend_ready()
        await all_decided(up)
        return f"{rows} rows inserted, offsets from {committed} not committed, log ends at {last}"
    raise AssertionError("the processor was never caught between insert and commit")


async def kill_mid_days(up: Embedded) -> str:
    """A batch of many days becomes a part each; the backend dies when some are there."""
    for _ in range(TRIES):
        before = moments.inserted(up.store).keys()
        days = await send_old_events(up.run, up.ingest_url, up.ingest_key)
        if not days:
            await asyncio.sleep(0.5)
            continue

        pid = up.pid(BACKEND)
        some = partial(_days_stored, up, before, days)
        done = await moments.caught(pid, some, up.run.chance, seconds=5)
        if not done:
            continue
        await up.kill_backend(pid)
        await up.backend_ready()
        await all_decided(up)
        return f"{done} of {len(days)} days were in the store"
    raise AssertionError("the processor was never caught amid an insert of many days")


def _days_stored(up: Embedded, before: Set[str], days: Sequence[str]) -> int:
    """How many of these days an insert has brought since `before`; 0 also when it is all."""
    new = {name[:8] for name in moments.inserted(up.store).keys() - before}
    done = len(new.intersection(days))
    return done if done < len(days) else 0


async def kill_mid_spool_append(up: Embedded) -> str:
    """Ingest hangs, events go to the spool, and the decision point dies amid a write."""
    point, backend = up.pid(POINT), up.pid(BACKEND)
    moments.stand_still(backend)
    try:
        async with up.gateway.outage():
            pages = await moments.torn_append(point, up.gateway.spool / "spool.db-wal")
            await up.kill_point(point)
            moments.go_on(backend)
    finally:
        moments.go_on(backend)
    await up.backend_ready()
    return f"{pages} pages of a transaction were written, and no commit"


async def kill_mid_rotation(up: Embedded) -> str:
    """The journal's file cannot be written, so another is begun; there the process dies."""
    spool = up.gateway.spool
    for _ in range(TRIES):
        point = up.pid(POINT)
        async with up.gateway.outage():
            with moments.full_disk(point):
                before = moments.newest_journal(spool)
                await asyncio.sleep(0.2)
            begun = partial(moments.fresh_journal, spool, before)
            fresh = await moments.caught(point, begun, up.run.chance, seconds=3)
            if not fresh:
                continue
            await up.kill_point(point)
        return f"{fresh} was begun and empty, after {before}"
    raise AssertionError("the decision point was never caught amid a rotation of its journal")


async def rotate_undecided_log(up: Embedded) -> str:
    """The log of requests without a decision is renamed; its reader dies, then and there."""
    log = up.gateway.spool / "undecided.jsonl"
    async with up.gateway.outage():
        await up.kill_point()
        pid = await soon(lambda: up.pid(POINT), "the supervisor starts another decision point")
        await asyncio.sleep(up.run.chance.uniform(0.5, 1.5))
        os.replace(log, log.with_suffix(".jsonl.1"))
        Admin(up.state / "run/admin.sock")._ask("POST", "/reopen_logs")
        await asyncio.sleep(up.run.chance.uniform(0, 0.3))
        await up.kill_point(pid)
    return "renamed, reopened by Envoy, reader killed"


async def fill_spool_disk(up: Embedded) -> str:
    """No byte more for spool and journal, while ingest hangs as well."""
    point, backend = up.pid(POINT), up.pid(BACKEND)
    if up.gateway.durable:  # denies what it cannot record
        async with up.gateway.outage():
            before = len(up.gateway.refusals)
            with moments.full_disk(point):
                await asyncio.sleep(1)
                await soon(lambda: len(up.gateway.refusals) > before, "what is not kept is refused")
            refused = len(up.gateway.refusals) - before
        return f"{refused} calls refused"
    moments.stand_still(backend)
    try:
        with moments.full_disk(point):
            await up.gateway.decided(200)
    finally:
        moments.go_on(backend)
    await up.backend_ready()
    return "200 calls and more decided meanwhile"


async def fill_backend_disk(up: Embedded) -> str:
    """No byte more for event log and store."""
    pid = up.pid(BACKEND)
    with moments.full_disk(pid):
        await away(up)
    await up.backend_ready()
    return "and it lived on" if up.pid(BACKEND) == pid else "and it died of it"


async def hold_log(up: Embedded) -> str:
    """Somebody else writes to the log, for long."""
    with up.log_held():
        await away(up)
    await up.backend_ready()
    return f"for {up.run.away_seconds:.0f} s"


async def freeze_backend(up: Embedded) -> str:
    """Connections stay open, and nobody answers: half-open, a store and a log that are slow."""
    pid = up.pid(BACKEND)
    moments.stand_still(pid)
    try:
        await away(up)
    finally:
        moments.go_on(pid)
    await up.backend_ready()
    return f"for {up.run.away_seconds:.0f} s"


_SUPERVISED = "the supervisor starts it again"
RESTART = Fault(
    "kill supervisor",
    "SIGKILL `sentinel up`; its guard ends the rest",
    "`sentinel up` again",
    kill_supervisor,
)
FAULTS: list[Fault[Embedded]] = [
    RESTART,
    Fault("kill decision point", "SIGKILL", _SUPERVISED, kill_decision_point),
    Fault("kill backend", "SIGKILL ingest, processor and store", _SUPERVISED, kill_backend),
    Fault(
        "kill between insert and commit",
        "the log held, SIGKILL once the rows are there",
        _SUPERVISED,
        kill_before_commit,
    ),
    Fault(
        "kill amid many days", "SIGKILL when some days' parts are there", _SUPERVISED, kill_mid_days
    ),
    Fault(
        "kill amid a spool append",
        "backend stopped, SIGKILL with a transaction half written",
        _SUPERVISED,
        kill_mid_spool_append,
    ),
    Fault(
        "kill amid a journal rotation",
        "SIGKILL with a new file begun",
        _SUPERVISED,
        kill_mid_rotation,
        modes=(DURABLE,),
    ),
    Fault(
        "rotate undecided log",
        "renamed while it is read, the reader killed",
        _SUPERVISED,
        rotate_undecided_log,
    ),
    Fault("fill spool's disk", "RLIMIT_FSIZE 0", "the limit goes", fill_spool_disk),
    Fault("fill log's and store's disk", "RLIMIT_FSIZE 0", "the limit goes", fill_backend_disk),
    Fault("hold the log", "its write lock is taken", "and given back", hold_log),
    Fault("freeze backend", "SIGSTOP", "SIGCONT", freeze_backend),
    Fault("clock back", "an hour, for all but Envoy", "forward again", clock_back),
    Fault("poison", "records straight into the log", "they are set aside", poison),
]
