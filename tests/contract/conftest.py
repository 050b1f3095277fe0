"""One real broker, ClickHouse endpoint and Kubernetes API server for all suites that need them.

chDB opens one folder at a time in a process: each test closes its store. The server is
the endpoint over chDB, or what CLICKHOUSE_TEST_URL names, like clickhouse://host:8123;
each test has a database of its own there.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.ports.event_store import EventStore
from tests.tools.clickhouse_endpoint import ClickHouseEndpoint
from tests.tools.kafka_broker import KafkaBroker, running_broker
from tests.tools.kube_cluster import governed_cluster
from tests.tools.kube_objects import Served

Opener = Callable[[], EventStore]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with running_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := os.environ.get("CLICKHOUSE_TEST_URL"):
        yield given.rstrip("/")
        return
    with ClickHouseEndpoint(tmp_path_factory.mktemp("clickhouse") / "data") as endpoint:
        yield endpoint.url.removesuffix("/mcp")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The custom resources in a cluster with two namespaces of them."""
    with governed_cluster(tmp_path_factory.mktemp("kubernetes") / "cluster") as running:
        for namespace in ("mcp-servers", "another"):
            assert running.kubectl("create", "namespace", namespace).returncode == 0
        yield Served(running)


@pytest.fixture(params=["chdb", "server"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty store."""
    if request.param == "chdb":
        return f"chdb://{tmp_path / 'store'}"
    return f"{request.getfixturevalue('server')}/test_{uuid4().hex}"


@pytest.fixture
def opener(store_url: str) -> Opener:
    return lambda: ClickHouseStore(store_url)


@pytest.fixture
def store(opener: Opener) -> Iterator[EventStore]:
    opened = opener()
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def topic() -> UUID:
    return uuid4()
