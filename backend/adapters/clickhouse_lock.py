"""One process at a time changes the schema.

ClickHouse has no lock, but creating a table is atomic, on a cluster too: whoever
creates `schema_lock_7` holds the seventh one, as long as there is no later one. It
writes into the table that it lives; after it has written nothing for `LEASE_SECONDS`,
or that it is done, whoever creates `schema_lock_8` holds the next. So nobody can take
the lock from one who took it first, and nobody drops another's. A holder that was only
frozen finds on waking that a later lock exists.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from backend.adapters.clickhouse_cluster import on_cluster, shared_engine
from extauthz.core.errors import Retryable

LEASE_SECONDS: Final = 30.0
WAIT_SECONDS: Final = 60.0
_PREFIX: Final = "schema_lock_"
_TABLE_EXISTS: Final = 57
_UNKNOWN_TABLE: Final = 60

_log = logging.getLogger(__name__)

StillHeld = Callable[[], None]


@contextmanager
def schema_lock(
    client: Client,
    beating: Client,
    cluster: str,
    *,
    lease_seconds: float = LEASE_SECONDS,
    wait_seconds: float = WAIT_SECONDS,
) -> Iterator[StillHeld]:
    """Hold the lock until the block ends.

    Args:
        beating: another connection, to say that the holder lives while `client` works.

    Yields:
        what raises Retryable once another process has taken the lock over.

    Raises:
        Retryable: another process holds it, and lives.
    """
    number = _acquire(client, cluster, lease_seconds, wait_seconds)
    done = threading.Event()
    beat = threading.Thread(
        target=_beat, args=(beating, number, lease_seconds / 6, done), daemon=True
    )
    beat.start()

    def still_held() -> None:
        if _latest(client) != number:
            raise Retryable("another process took over the migration; start again")

    try:
        yield still_held
    finally:
        done.set()
        beat.join()
        _release(client, number)


def _acquire(client: Client, cluster: str, lease_seconds: float, wait_seconds: float) -> int:
    until = time.monotonic() + wait_seconds
    while True:
        number = _latest(client)
        if not number or _is_over(client, number, lease_seconds):
            number += 1
            if _create(client, number, cluster):
                if _latest(client) == number:
                    _drop_before(client, number, cluster)
                    return number
                _drop(client, number, cluster)  # what was seen is long over
        elif time.monotonic() > until:
            raise Retryable(
                f"another process has been migrating the store for {wait_seconds:.0f} s;"
                " try again later"
            )
        else:
            time.sleep(min(1.0, lease_seconds / 6))


def _create(client: Client, number: int, cluster: str) -> bool:
    try:
        client.command(
            f"CREATE TABLE {_PREFIX}{number}{on_cluster(cluster)}"
            " (at DateTime64(3) DEFAULT now64(3), released Bool)"
            f" ENGINE = {shared_engine(cluster)} ORDER BY at"
        )
    except DatabaseError as error:
        if error.code != _TABLE_EXISTS:
            raise
        return False
    return True


def _drop_before(client: Client, number: int, cluster: str) -> None:
    for older in _numbers(client):
        if older < number:
            _drop(client, older, cluster)


def _drop(client: Client, number: int, cluster: str) -> None:
    client.command(f"DROP TABLE IF EXISTS {_PREFIX}{number}{on_cluster(cluster)} SYNC")


def _release(client: Client, number: int) -> None:
    try:
        client.command(f"INSERT INTO {_PREFIX}{number} (released) VALUES (1)")
    except DatabaseError as error:
        if error.code != _UNKNOWN_TABLE:  # taken over, and dropped
            raise


def _numbers(client: Client) -> list[int]:
    rows = client.query(
        "SELECT toUInt32OrZero(substring(name, {length:UInt8} + 1)) FROM system.tables"
        " WHERE database = currentDatabase() AND startsWith(name, {prefix:String})",
        parameters={"length": len(_PREFIX), "prefix": _PREFIX},
    ).result_rows
    return [int(number) for (number,) in rows]


def _latest(client: Client) -> int:
    return max(_numbers(client), default=0)


def _is_over(client: Client, number: int, lease_seconds: float) -> bool:
    """Whether its holder let it go, or died. All times are the server's own."""
    table = f"{_PREFIX}{number}"
    try:
        ((released, beats, silent),) = client.query(
            f"SELECT max(released), count(), now64(3) - max(at) FROM {table}"
        ).result_rows
        if not beats:  # made, and not written to yet
            ((silent,),) = client.query(
                "SELECT now64(3) - max(metadata_modification_time) FROM system.tables"
                " WHERE database = currentDatabase() AND name = {name:String}",
                parameters={"name": table},
            ).result_rows
    except DatabaseError as error:
        if error.code != _UNKNOWN_TABLE:
            raise
        return False  # dropped meanwhile: there is a later one
    return bool(released) or float(silent) > lease_seconds


def _beat(client: Client, number: int, seconds: float, done: threading.Event) -> None:
    while True:
        try:
            client.command(f"INSERT INTO {_PREFIX}{number} (released) VALUES (0)")
        except ClickHouseError as error:  # the next beat may come through
            _log.warning("cannot renew the migration lock", extra={"error": type(error).__name__})
        if done.wait(seconds):
            return
