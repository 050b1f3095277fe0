"""What is done to the split stack."""

import asyncio
import time

from tests.chaos import moments
from tests.chaos.faults import Fault, all_decided, away, clock_back, poison, send_old_events
from tests.chaos.split import Split
from tests.tools.clickhouse_endpoint import Fault as StoreFault
from tests.tools.stack_part import Part, metric
from tests.tools.waiting import soon

TRIES = 6  # to hit a moment
SESSION_SECONDS = 6.0  # until a silent consumer loses its partitions


async def kill_decision_point(split: Split) -> str:
    gateway = split.run.chance.choice(split.gateways)
    await split.kill_point(gateway)
    return f"of {gateway.name}"


async def kill_ingest(split: Split) -> str:
    await split.kill(split.stack.ingest)
    return "at a random moment"


async def kill_processor(split: Split) -> str:
    part = split.run.chance.choice(split.working)
    await split.kill(part)
    return part.name


async def kill_api(split: Split) -> str:
    await split.kill(split.stack.api)
    return "at a random moment"


async def kill_kafka(split: Split) -> str:
    await asyncio.to_thread(split.stack.kafka.kill)
    await away(split)
    await asyncio.to_thread(split.stack.kafka.start)
    await split.backend_ready()
    return f"for {split.run.away_seconds:.0f} s"


async def kill_store(split: Split) -> str:
    await asyncio.to_thread(split.stack.store.kill)
    await away(split)
    await asyncio.to_thread(split.stack.store.start)
    await split.backend_ready()
    return f"for {split.run.away_seconds:.0f} s"


async def kill_before_commit(split: Split) -> str:
    """The store inserts and withholds its answer; both processors die waiting for it."""
    store = split.stack.store
    for _ in range(TRIES):
        await asyncio.to_thread(store.fail, StoreFault(on="insert", times=-1, after=60))
        before = await asyncio.to_thread(store.inserts)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if await asyncio.to_thread(store.inserts) > before:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        doomed = split.working
        for part in doomed:
            await asyncio.to_thread(part.kill)
        await asyncio.to_thread(store.fail)
        rows = await split.stored_beyond(await split.committed())
        for part in doomed:
            await split.begin(part)
        await all_decided(split)
        if rows:
            return f"{rows} rows in the store were not committed"
    raise AssertionError("no processor was caught between insert and commit")


async def kill_mid_days(split: Split) -> str:
    """A batch of many days becomes a part each; the store dies when some are there."""
    store, parts = split.stack.store, 3
    before = moments.inserted(store.path).keys()
    await asyncio.to_thread(store.fail, StoreFault(times=-1, die_after_parts=parts))
    for _ in range(TRIES):
        if days := await send_old_events(split.run, split.ingest_url, split.ingest_key):
            break
        await asyncio.sleep(0.5)
    await asyncio.to_thread(store.wait)
    done = {name[:8] for name in moments.inserted(store.path).keys() - before} & set(days)
    await all_decided(split)
    await asyncio.to_thread(store.start)
    await split.backend_ready()
    assert 0 < len(done) < len(days), f"{len(done)} of {len(days)} days"
    return f"{len(done)} of {len(days)} days were in the store"


async def kill_mid_spool_append(split: Split) -> str:
    """Ingest is away, events go to the spool, and the decision point dies amid a write."""
    gateway = split.run.chance.choice(split.gateways)
    point = split.sidecar(gateway).point
    await asyncio.to_thread(split.stack.ingest.kill)
    async with gateway.outage():
        pages = await moments.torn_append(point.pid, gateway.spool / "spool.db-wal")
        await asyncio.to_thread(point.kill)
        gateway.note_start()
        await split.begin(point)
    await split.begin(split.stack.ingest)
    return f"{gateway.name}: {pages} pages of a transaction were written, and no commit"


async def slow_store(split: Split) -> str:
    """Every request to the store takes seconds longer."""
    await asyncio.to_thread(split.stack.store.fail, StoreFault(on="any", times=-1, before=1.5))
    await away(split)
    await asyncio.to_thread(split.stack.store.fail)
    return "1.5 s more for every request"


async def unsure_store(split: Split) -> str:
    """The store works and its answers get lost, so that nobody knows what was stored."""
    await asyncio.to_thread(split.stack.store.fail, StoreFault(on="insert", times=3, lose=True))
    await away(split)
    await asyncio.to_thread(split.stack.store.fail)
    return "answers of up to 3 inserts"


async def cut_connections(split: Split) -> str:
    """Reset what is open between all components, again and again."""
    stack, count = split.stack, 0
    until = time.monotonic() + split.run.away_seconds
    while time.monotonic() < until:
        proxy = split.run.chance.choice([stack.to_ingest, stack.to_kafka, stack.to_store])
        count += await asyncio.to_thread(proxy.cut)
        await asyncio.sleep(split.run.chance.uniform(0.05, 0.5))
    await all_decided(split)
    return f"{count} connections"


async def half_open(split: Split) -> str:
    """Connections between two components stay open, and nothing comes through."""
    stack = split.stack
    names = {"ingest": stack.to_ingest, "kafka": stack.to_kafka, "store": stack.to_store}
    name = split.run.chance.choice(sorted(names))
    names[name].freeze()
    await away(split)
    await asyncio.to_thread(names[name].thaw)
    await split.backend_ready()
    return f"to {name}"


async def rebalance(split: Split) -> str:
    """A third processor comes amid batches, and one of the others goes."""
    spare = next(part for part in split.stack.processor if not part.is_running)
    leaving = split.run.chance.choice(split.working)
    await split.begin(spare)
    await all_decided(split)
    await asyncio.to_thread(leaving.stop)
    await all_decided(split)
    return f"{spare.name} came, {leaving.name} went"


async def zombie(split: Split) -> str:
    """A processor stands still after an insert, for longer than its session, then goes on."""
    before = {part.name: await asyncio.to_thread(_done, part) for part in split.working}

    def at_work() -> list[Part]:  # not the one whose partitions nobody writes to
        return [part for part in split.working if _done(part) > before[part.name]]

    found = await soon(lambda: asyncio.to_thread(at_work), "a processor inserts", every=0.01)
    part = split.run.chance.choice(found)
    return await _beyond_session(split, part)


async def zombie_amid_insert(split: Split) -> str:
    """Likewise at any moment, and the store takes its time."""
    part = split.run.chance.choice(split.working)
    await asyncio.to_thread(split.stack.store.fail, StoreFault(on="any", times=-1, before=0.5))
    await asyncio.sleep(split.run.chance.uniform(0.5, 2.5))
    seen = await _beyond_session(split, part)
    await asyncio.to_thread(split.stack.store.fail)
    return seen


def _done(part: Part) -> float:
    return metric(part.address, "processor_events_total")


async def _beyond_session(split: Split, part: Part) -> str:
    moments.stand_still(part.pid)
    try:
        until = time.monotonic() + SESSION_SECONDS + 2
        while time.monotonic() < until:
            await all_decided(split)
    finally:
        moments.go_on(part.pid)
    await split.backend_ready()
    return f"{part.name} for {SESSION_SECONDS + 2:.0f} s"


async def fill_spool_disk(split: Split) -> str:
    """No byte more for spools and journal, while ingest is away as well."""
    durable, besteffort = split.gateways
    points = [split.sidecar(gateway).point.pid for gateway in split.gateways]
    await asyncio.to_thread(split.stack.ingest.kill)
    async with durable.outage():
        refused = len(durable.refusals)
        with moments.full_disk(*points):
            await besteffort.decided(100)
        refused = len(durable.refusals) - refused
    await split.begin(split.stack.ingest)
    assert refused, "nothing was refused although nothing could be recorded"
    return f"durable refused {refused} calls, best effort none"


async def fill_log_disk(split: Split) -> str:
    """No byte more for Kafka, which ends of it; it is started again with room."""
    kafka = split.stack.kafka
    with moments.full_disk(kafka.pid):
        await away(split)
    died = not kafka.is_running
    await asyncio.to_thread(kafka.kill)
    await asyncio.to_thread(kafka.start)
    await split.backend_ready()
    return "Kafka " + ("ended" if died else "lived")


async def fill_store_disk(split: Split) -> str:
    """No byte more for the store."""
    with moments.full_disk(split.stack.store.pid):
        await away(split)
    await split.backend_ready()
    return f"for {split.run.away_seconds:.0f} s"


_AGAIN = "started again"
FAULTS: list[Fault[Split]] = [
    Fault("kill decision point", "SIGKILL", _AGAIN, kill_decision_point, bounded=False),
    Fault("kill ingest", "SIGKILL", _AGAIN, kill_ingest),
    Fault("kill processor", "SIGKILL one of two", _AGAIN, kill_processor, bounded=False),
    Fault("kill api", "SIGKILL", _AGAIN, kill_api, bounded=False),
    Fault("kill Kafka", "SIGKILL, away for a while", _AGAIN, kill_kafka),
    Fault("kill store", "SIGKILL, away for a while", _AGAIN, kill_store),
    Fault(
        "kill between insert and commit",
        "the store withholds its answer, SIGKILL the processors",
        _AGAIN,
        kill_before_commit,
    ),
    Fault(
        "kill amid many days",
        "SIGKILL the store when some days' parts are there",
        _AGAIN,
        kill_mid_days,
        bounded=False,
    ),
    Fault(
        "kill amid a spool append",
        "ingest away, SIGKILL with a transaction half written",
        _AGAIN,
        kill_mid_spool_append,
        bounded=False,
    ),
    Fault("slow store", "each request waits", "no more", slow_store),
    Fault("unsure store", "answers lost after the insert", "no more", unsure_store),
    Fault("cut connections", "reset at random", "new ones are welcome", cut_connections),
    Fault("half-open connections", "nothing is relayed", "reset", half_open),
    Fault("rebalance", "one processor comes, one goes", "the rest share", rebalance),
    Fault("zombie processor", "SIGSTOP beyond the session", "SIGCONT", zombie),
    Fault(
        "zombie amid an insert",
        "SIGSTOP beyond the session, the store slow",
        "SIGCONT",
        zombie_amid_insert,
        bounded=False,
    ),
    Fault("fill spools' disk", "RLIMIT_FSIZE 0", "the limit goes", fill_spool_disk, bounded=False),
    Fault("fill log's disk", "RLIMIT_FSIZE 0", _AGAIN, fill_log_disk, bounded=False),
    Fault("fill store's disk", "RLIMIT_FSIZE 0", "the limit goes", fill_store_disk),
    Fault(
        "clock back",
        "an hour, for all Python processes",
        "forward again",
        clock_back,
        bounded=False,
    ),
    Fault("poison", "records straight into the log", "they are set aside", poison),
]
