"""Who records changes of custom resources: the api, the watch beside it, the controller."""

import asyncio
import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import uuid_utils

from backend.event_log_settings import SQLITE
from backend.metrics import ApiMetrics
from backend.ports.change_log import ChangeLog
from backend.settings import Settings
from backend.wired import Wired
from backend.wiring_adapters import KUBERNETES, path_of
from extauthz.core.errors import Invalid

if TYPE_CHECKING:
    from backend.controller.records import Recorded

_log = logging.getLogger(__name__)


async def change_log(wired: Wired, metrics: ApiMetrics) -> ChangeLog:
    """What the api changes is recorded by it; what files are edited, by a watch beside it."""
    from backend.history.delivery import Delivery
    from backend.history.ledger import Ledger
    from backend.history.outbox import Outbox
    from backend.history.recorder import Recorder
    from backend.history.watch import DirectoryWatch

    settings, ledger = wired.settings, Ledger()
    outbox = Outbox(_outbox_path(settings), time.time)
    wired.opened.callback(outbox.close)
    metrics.changes_waiting.set_function(outbox.count)
    metrics.changes_lost.set_function(lambda: outbox.lost)
    delivery = Delivery(outbox, wired.event_log)
    if not settings.has_event_log:
        _log.warning("edits of custom resources are not recorded; set EVENT_LOG_URL")
    else:
        if not settings.access_url.startswith(KUBERNETES):  # there the controller watches
            wired.beside.append(
                DirectoryWatch(
                    path_of(settings.access_url, "ACCESS_URL", "dir"),
                    ledger=ledger,
                    open_log=wired.event_log,
                    store=await wired.event_store(),
                    clock=time.time,
                    new_id=lambda: str(uuid_utils.uuid7()),
                    retention=retention_of(settings),
                )
            )
        wired.beside.append(delivery)
    return Recorder(
        ledger=ledger,
        outbox=outbox,
        delivery=delivery,
        loop=asyncio.get_running_loop(),
        clock=time.time,
        new_id=lambda: str(uuid_utils.uuid7()),
    )


def cluster_changes(wired: Wired) -> "Recorded":
    """What is changed by others than the api, on its way to the event log."""
    from backend.history.cluster import ClusterChanges
    from backend.history.delivery import Delivery
    from backend.history.ledger import Ledger
    from backend.history.outbox import Outbox
    from backend.history.recorder import Recorder

    if not wired.settings.has_event_log:
        _log.warning("edits of custom resources are not recorded; set EVENT_LOG_URL")
        return lambda _before, _after: None
    outbox = Outbox(_outbox_path(wired.settings), time.time)
    wired.opened.callback(outbox.close)
    delivery = Delivery(outbox, wired.event_log)
    recorder = Recorder(
        ledger=Ledger(),
        outbox=outbox,
        delivery=delivery,
        loop=asyncio.get_running_loop(),
        clock=time.time,
        new_id=lambda: str(uuid_utils.uuid7()),
        producer="controller",
    )
    changes = ClusterChanges(recorder.record_later)
    wired.beside += [changes, delivery]
    return changes.note


def _outbox_path(settings: Settings) -> Path:
    """Raises: Invalid: what has taken rights away would be forgotten with the process."""
    from backend.history.outbox import IN_MEMORY

    if settings.change_outbox:
        return Path(settings.change_outbox)
    for url in (settings.event_log_url, settings.store_url):
        if url.startswith((SQLITE, "chdb://")):
            return Path(unquote(urlsplit(url).path)).with_name("outbox.db")
    if not settings.has_event_log:  # which says that nothing is recorded
        return IN_MEMORY
    problem = "is not set, and no file of the event log or store lies here to put it beside"
    mend = "name a file on a local disk, one for each process; :memory: forgets at its end"
    raise Invalid("CHANGE_OUTBOX", problem, mend)


def retention_of(settings: Settings) -> timedelta | None:
    return timedelta(days=settings.retention_days) if settings.retention_days else None
