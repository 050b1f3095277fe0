"""What to do about a start that is not wholly proven: a sentence for people. Pure."""

from collections.abc import Mapping
from typing import Final

from backend.api.verdicts import Start, Tail, Verdict
from extauthz.core.events import Cause

_CAUSES: Final[Mapping[str, str]] = {
    Cause.CRASH: "the process ended with these in memory; AUDIT_MODE=durable keeps them",
    Cause.QUEUE_FULL: "ingest was away and the spool full; raise SPOOL_MAX_BYTES, keep ingest near",
    Cause.REFUSED: "ingest refused these events; its log says why",
    Cause.UNENCODABLE: "these events could not be written down; that is a bug, report it",
    Cause.MARK_LOST: "its mark was unreadable: nobody knows how many died; look at its disk",
    Cause.SPOOL_LOST: "the gateway's spool was unreadable; look at its disk",
    Cause.UNDECIDED_OVERFLOW: "ingest was long away; raise UNDECIDED_MAX_BYTES, keep ingest near",
    Cause.UNDECIDED_REPLACED: "Envoy's log was cut or replaced from outside; let nobody rotate it",
}


def next_step(start: Start) -> str:
    """What to do; empty where there is nothing."""
    if start.unexplained and start.rivals:
        return (
            f"other producers send events of this start ({', '.join(start.rivals)}): if its key "
            "was changed, count both together; if not, somebody else sends in its name"
        )
    match start.verdict:
        case Verdict.HOLES:
            return (
                "lost on the way to the store, and nobody told: look for the numbers in "
                "`sentinel dlq list`, then in the logs of ingest and processor for that time"
            )
        case Verdict.DUPLICATES:
            return "stored more than once: do not count this range; that is a bug, report it"
        case Verdict.SETTLING:
            return "ask again in a minute: the gateway may still tell of it"
    if start.tail is Tail.SILENT:
        return (
            "not heard of any more: if it was stopped for good all is well, else look at its pod; "
            "when it starts again on the same spool, it tells what it lost"
        )
    causes = dict.fromkeys(
        gap.cause for gap in start.gaps if start.missing_in(gap) or not gap.count
    )
    return "; ".join(_CAUSES.get(cause, f"told as `{cause}`") for cause in causes)
