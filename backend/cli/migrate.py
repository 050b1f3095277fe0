"""`sentinel migrate`: the store's schema, brought up to date or only looked at."""

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from backend import wiring_adapters
from backend.cli.console import json_option, printable
from backend.ports.event_store import SchemaChange
from backend.settings import Settings
from extauthz.core import config
from extauthz.core.errors import Conflict


@click.command()
@click.option(
    "--store",
    metavar="STORE",
    help="clickhouse://host:8123/database or chdb:///path; STORE_URL where it is not given.",
)
@click.option("--dry-run", is_flag=True, help="Print the SQL that would run; alter no table.")
@json_option
def migrate(store: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Bring the store's schema up to date.

    The backend does so itself whenever it starts. CLICKHOUSE_CLUSTER and EVENT_RETENTION_DAYS
    count as they do there. The database itself is made where there is none, in any case.
    """
    changes = _migrate(_settings(store), dry_run=dry_run)
    if as_json:
        print(json.dumps([asdict(change) for change in changes]))
    elif not changes:
        print("the schema is up to date")
    elif dry_run:
        print("\n\n".join(map(_sql, changes)))
    else:
        for change in changes:
            print(f"applied {change.name}")


def _settings(store: str | None) -> Settings:
    given = {} if store is None else {"STORE_URL": store}
    return config.load(
        Settings, {**os.environ, **given}, lambda path: Path(path).read_text("utf-8")
    )


def _migrate(settings: Settings, *, dry_run: bool) -> Sequence[SchemaChange]:
    try:
        store = wiring_adapters.new_event_store(settings)
    except Conflict as error:
        raise Conflict(
            f"{error}; what `sentinel up` owns is brought up to date whenever that starts"
        ) from error
    with closing(store):
        changes = store.pending()
        if changes and not dry_run:
            store.migrate()
    return changes


def _sql(change: SchemaChange) -> str:
    statements = "\n\n".join(f"{statement};" for statement in change.statements)
    lines = [printable(line) for line in statements.splitlines()]
    return "\n".join([f"-- {change.name}", *lines])
