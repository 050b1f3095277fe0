"""What became of the events, as numbers that add up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from extauthz.core.events import Cause

# Of an emitter; those of undecided requests have no place in its queue.
CAUSES: Final = (
    Cause.QUEUE_FULL,
    Cause.REFUSED,
    Cause.UNENCODABLE,
    Cause.CRASH,
    Cause.MARK_LOST,
    Cause.SPOOL_LOST,
)


@dataclass(frozen=True, slots=True)
class Counts:
    """The emitter at one instant. All but `running`, `pending`, `spooled` and `spool_bytes`
    only grow.

    `offered + recovered == sent + pending + spooled + dropped[queue_full | refused |
    unencodable]`; the causes crash, mark_lost and spool_lost count what earlier
    processes lost.

    Args:
        offered: sequences taken by this process.
        recovered: events that earlier processes left in the spool.
        sent: events that ingest has accepted.
        resent: of the sent, those marked as possibly sent before.
        spooled: events on disk now.
        pending: events in memory alone now.
        dropped: lost events by cause.
        joined: outcomes joined to their call.
        late: outcomes sent on as `mcp.response`.
        running: allowed calls whose end is not known.
        spool_bytes: disk in use, the journal's files included.
        faults: unreadable marks and spools, failed writes, unexpected errors.
        away: whether ingest was out of reach, or refused us, at the last try.
    """

    offered: int
    recovered: int
    sent: int
    resent: int
    spooled: int
    pending: int
    dropped: Mapping[Cause, int]
    joined: int
    late: int
    running: int
    spool_bytes: int
    faults: int
    away: bool
