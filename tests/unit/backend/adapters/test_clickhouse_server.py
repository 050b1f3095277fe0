"""The store over HTTP, when the server dies, hangs, loses answers and has no room."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.ports.event_store import StoredEvent
from extauthz.core.errors import Invalid, Retryable
from tests.tools.clickhouse_endpoint import ClickHouseEndpoint, Fault

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOPIC = UUID(int=7)
NONE: frozenset[str] = frozenset()

Opener = Callable[..., ClickHouseStore]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseEndpoint]:
    with ClickHouseEndpoint(tmp_path_factory.mktemp("clickhouse") / "data") as running:
        yield running


@pytest.fixture
def opener(endpoint: ClickHouseEndpoint) -> Iterator[Opener]:
    """Opens stores on one fresh database; the endpoint is well again afterwards."""
    url = endpoint.url.removesuffix("mcp") + f"test_{uuid4().hex}"
    opened: list[ClickHouseStore] = []

    def open_store(**options: int) -> ClickHouseStore:
        opened.append(ClickHouseStore(url, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()
    if not endpoint.is_running:
        endpoint.start()
    endpoint.fail()


def rows(count: int, *, days_apart: int = 0) -> list[StoredEvent]:
    return [
        StoredEvent(
            event_time=NOON - timedelta(days=n * days_apart),
            event_id=str(UUID(int=n + 1)),
            source="mcp-proxy",
            event_type="mcp.request",
            payload='{"secret":"hunter2"}',
            topic_id=TOPIC,
            log_partition=0,
            log_offset=n,
        )
        for n in range(count)
    ]


def test_a_lost_answer_stores_once(endpoint: ClickHouseEndpoint, opener: Opener) -> None:
    """The insert took effect and its answer was lost: it is Retryable, and never sent again."""
    store = opener()
    store.migrate()
    before = endpoint.inserts()
    endpoint.fail(Fault(lose=True))
    with pytest.raises(Retryable, match="check that STORE_URL"):
        store.insert(rows(10))
    assert endpoint.inserts() == before + 1
    assert store.total(NONE) == 10
    assert store.present(TOPIC, 0, 0, 100) == set(range(10))


def test_an_insert_that_comes_too_late_is_not_begun(
    endpoint: ClickHouseEndpoint, opener: Opener
) -> None:
    """The server itself looks at the time: its caller may have stood still on the way to it."""
    store = opener()
    store.migrate()
    endpoint.fail(Fault(before=3.0))
    with pytest.raises(Retryable, match="VIOLATED_CONSTRAINT"):
        store.insert(rows(10), time.monotonic() + 2.0)
    assert store.present(TOPIC, 0, 0, 100) == set()
    store.insert(rows(10), time.monotonic() + 60)
    assert store.total(NONE) == 10


def test_present_waits_for_a_hung_insert(endpoint: ClickHouseEndpoint, opener: Opener) -> None:
    """An insert that ends after its time limit is no surprise: `present` waits until it is over."""
    store = opener(insert_seconds=1)
    store.migrate()
    endpoint.fail(Fault(before=2))
    with pytest.raises(Retryable):
        store.insert(rows(10))
    assert store.present(TOPIC, 0, 0, 100) == set(range(10))


def test_a_new_owner_waits_for_the_old_one_s_insert(
    endpoint: ClickHouseEndpoint, opener: Opener
) -> None:
    """The process that sent an insert may be dead while the server still works on it."""
    dead = opener(insert_seconds=1)
    dead.migrate()
    endpoint.fail(Fault(before=2))
    with pytest.raises(Retryable):
        dead.insert(rows(10))
    assert opener().last_offset(TOPIC, 0) == 9


@pytest.mark.parametrize("parts", [1, 7, 25])
def test_a_kill_within_an_insert_of_many_days_is_seen(
    endpoint: ClickHouseEndpoint, opener: Opener, parts: int
) -> None:
    """Days are stored one by one: `present` tells which; the rest makes it whole, each once."""
    store = opener()
    store.migrate()
    batch = rows(40, days_apart=1)
    endpoint.fail(Fault(die_after_parts=parts))
    with pytest.raises(Retryable):
        store.insert(batch)
    endpoint.wait()
    endpoint.start()
    stored = store.present(TOPIC, 0, 0, 100)
    assert len(stored) >= parts
    assert store.total(NONE) == len(stored)
    store.insert([row for row in batch if row.log_offset not in stored])
    assert store.present(TOPIC, 0, 0, 100) == set(range(40))
    assert store.total(NONE) == 40
    assert store.duplicates(NOON - timedelta(days=365)) == 0


def test_a_server_that_is_away_is_retryable(endpoint: ClickHouseEndpoint, opener: Opener) -> None:
    """Every call says so; once it is back, the same store goes on."""
    store = opener()
    store.migrate()
    endpoint.kill()
    calls: list[Callable[[], object]] = [
        store.ping,
        store.migrate,
        lambda: store.insert(rows(1)),
        lambda: store.present(TOPIC, 0, 0, 1),
        lambda: store.last_offset(TOPIC, 0),
        opener,
    ]
    for call in calls:
        with pytest.raises(Retryable):
            call()
    endpoint.start()
    store.insert(rows(1))
    assert store.last_offset(TOPIC, 0) == 0


@pytest.mark.parametrize("code", [241, 243, 252, 159, 242, 999, 202, 53])
def test_what_is_not_the_rows_fault_is_retryable(
    endpoint: ClickHouseEndpoint, opener: Opener, code: int
) -> None:
    """Memory, disk, too many parts, time, read-only, Keeper, too many queries, types."""
    store = opener()
    store.migrate()
    endpoint.fail(Fault(code=code))
    with pytest.raises(Retryable, match=f"code {code}"):
        store.insert(rows(1))


def test_a_full_disk_is_retryable(endpoint: ClickHouseEndpoint, opener: Opener) -> None:
    """The store cannot write: nothing is the rows' fault, and with room all is well."""
    store = opener()
    store.migrate()
    endpoint.limit_files(0)
    try:
        with pytest.raises(Retryable, match="make room"):
            store.insert(rows(10))
    finally:
        endpoint.limit_files(-1)
    assert store.present(TOPIC, 0, 0, 100) == frozenset()
    store.insert(rows(10))
    assert store.total(NONE) == 10


def test_a_full_disk_is_told_to_every_writer(endpoint: ClickHouseEndpoint, opener: Opener) -> None:
    """Of inserts at once, what was answered to be stored is stored."""
    stores = [opener() for _ in range(4)]
    stores[0].migrate()
    told: list[int] = []

    def insert(number: int, row: StoredEvent) -> None:
        with suppress(Retryable):
            stores[number].insert([row])
            told.append(row.log_offset)

    some = rows(40)
    endpoint.limit_files(0)
    try:
        with ThreadPoolExecutor(len(stores)) as writers:
            for n, row in enumerate(some):
                writers.submit(insert, n % len(stores), row)
    finally:
        endpoint.limit_files(-1)
    assert stores[0].present(TOPIC, 0, 0, 100) == set(told)


def test_a_refused_row_is_not_quoted(opener: Opener) -> None:
    """Neither what is raised nor what caused it tells the payload."""
    store = opener()
    store.migrate()
    (bad,) = rows(1)
    bad = type(bad)(
        **{f: getattr(bad, f) for f in bad.__struct_fields__} | {"event_id": "nonsense"}
    )
    with pytest.raises(Invalid) as raised:
        store.insert([bad])
    assert raised.value.__suppress_context__
    assert "hunter2" not in str(raised.value)
