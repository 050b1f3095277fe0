"""The api over real adapters, its callers, and events for it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uuid_utils
from flask import Flask

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.directory import DirectoryStore
from backend.adapters.sqlite_log import SqliteLog
from backend.api.app import create_app
from backend.auth.api_keys import USER, ApiKey, ApiKeys, digest_of, from_lists
from backend.auth.principal import Principal, Scope
from backend.history.delivery import Delivery
from backend.history.ledger import Ledger
from backend.history.outbox import Outbox
from backend.history.recorder import Recorder
from backend.metrics import ApiMetrics, new_registry
from backend.ports.access_store import AccessStore
from backend.ports.change_log import ChangeLog
from backend.ports.event_log import EventLog
from backend.ports.event_store import EventStore
from tests.tools.event_rows import NOON
from tests.tools.log_thread import LogThread
from tests.tools.told_cluster import told_runtime

ACCESS = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: live, namespace: team-a}
spec: {serverRef: {name: shop}, subject: {agentID: ops}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ended, namespace: team-a}
spec: {serverRef: {name: shop}, subject: {agentID: ops}, disabled: true}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: live, namespace: team-b}
spec: {serverRef: {name: bank}, subject: {agentID: ops}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: open, namespace: team-a}
spec: {serverRef: {name: shop}, subject: {agentID: ops}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: gone, namespace: team-a}
spec: {serverRef: {name: shop}, subject: {agentID: ops}, revoked: true}
"""

NewApp = Callable[..., Flask]


def new_recorder(folder: Path, log: EventLog, thread: LogThread) -> Recorder:
    """A recorder of changes, its outbox in `folder`."""

    async def opened() -> EventLog:
        return log

    outbox = Outbox(folder / "outbox.db", NOON.timestamp)
    return Recorder(
        ledger=Ledger(),
        outbox=outbox,
        delivery=Delivery(outbox, opened),
        loop=thread.loop,
        clock=NOON.timestamp,
        new_id=lambda: str(uuid_utils.uuid7()),
    )


def callers() -> ApiKeys:
    """`admin`, `user` and `ingest` of plain lists; users of namespaces from a keys file."""
    limited = {
        "team-a": Principal("ada", USER, frozenset({"team-a"})),
        "both": Principal("bob", USER, frozenset({"team-a", "team-b"})),
        "reader": Principal("rita", frozenset({Scope.READ})),
    }
    named = [ApiKey(digest_of(key), principal) for key, principal in limited.items()]
    return ApiKeys([*from_lists(["user"], ["admin"], ["ingest"]), *named])


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> AccessStore:
    """Grants and sessions, some of them out of force."""
    folder: Path = tmp_path_factory.mktemp("access")
    (folder / "access.yaml").write_text(ACCESS)
    return DirectoryStore(folder)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseStore]:
    """One chDB store for a module's tests, which fill it once."""
    store = ClickHouseStore(f"chdb://{tmp_path_factory.mktemp('filled') / 'store'}")
    store.migrate()
    yield store
    store.close()


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """Records changes in a log of its own."""
    folder, thread = tmp_path_factory.mktemp("changes"), LogThread()
    log = SqliteLog(folder / "log.db", clock=NOON.timestamp, retention_seconds=3600)
    thread.run(log.start())
    yield new_recorder(folder, log, thread)
    thread.run(log.stop())
    thread.stop()


@pytest.fixture(scope="module")
def new_app(access: AccessStore, changes: ChangeLog) -> NewApp:
    """Makes the application over a store."""

    def made(store: EventStore | None, **others: Any) -> Flask:
        given: dict[str, Any] = {
            "store": store,
            "access": access,
            "changes": changes,
            "runtime": told_runtime(),
            "verifier": callers(),
            "metrics": ApiMetrics(new_registry()),
            "clock": lambda: NOON,
            "retention": None,
        }
        return create_app(**given | others)

    return made
