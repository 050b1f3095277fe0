"""`/audit/completeness`: whether the audit trail is whole."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from flask import Blueprint, Response, g, request

from backend.api import parameters
from backend.api.advice import next_step
from backend.api.answers import json_response
from backend.api.completeness import began_at
from backend.api.survey import Survey, survey
from backend.api.testimony import Gap
from backend.api.verdicts import Missing, Start, Tail
from backend.auth.principal import Principal, Scope
from backend.ports import EventStore
from extauthz.core.errors import Invalid
from extauthz.core.times import format_instant

DEFAULT_SINCE: Final = "1h"
MOST_STARTS: Final = 1_000  # listed; the worst come first, and totals count them all
FORGETTING: Final = timedelta(hours=1)  # before it is due, the store may drop what lies around
LARGEST: Final = (1 << 64) - 1  # what orjson writes
_PARAMETERS: Final = frozenset({"since", "until"})


def audit_blueprint(
    store: EventStore, clock: Callable[[], datetime], retention: timedelta | None
) -> Blueprint:
    """Reads the trail; the scope `read`, for all namespaces.

    Args:
        clock: the time, aware.
        retention: how long events are kept; None for ever.
    """
    blueprint = Blueprint("audit", __name__)

    @blueprint.before_request
    def authorize() -> None:
        principal: Principal = g.principal
        principal.require_everywhere(Scope.READ)

    @blueprint.get("/audit/completeness")
    def completeness() -> Response:
        parameters.only(request.args, _PARAMETERS)
        now = clock()
        since = parameters.moment(request.args, "since", now, DEFAULT_SINCE)
        until = parameters.moment(request.args, "until", now, format_instant(now.timestamp()))
        if since >= until:
            raise Invalid("since", "is not before `until`", "ask for an earlier `since`")
        if retention:  # what was kept long enough is gone, and not missing
            since = max(since, now - retention + FORGETTING)
        if since >= until:
            raise Invalid("until", "lies before all that is kept", "ask for a later `until`")
        found = survey(store, since, until, now)
        return json_response(described(found))

    return blueprint


def described(found: Survey) -> dict[str, Any]:
    """The report as JSON members."""
    starts = found.starts
    return {
        "verdict": found.verdict,
        "alarm": found.verdict.is_alarm,
        "since": _time(found.since),
        "until": _time(found.until),
        "at": _time(found.at),
        "totals": {
            "starts": len(starts),
            "present": sum(start.run.present for start in starts if start.run),
            "missing": _total(start.missed for start in starts),
            "explained": _total(start.explained for start in starts),
            "settling": _total(start.settling for start in starts),
            "unexplained": _total(start.unexplained for start in starts),
            "duplicates": sum(start.duplicates for start in starts),
            "silent": sum(start.tail is Tail.SILENT for start in starts),
            "unnumbered": sum(run.rows for run in found.unnumbered),
        },
        "starts": [_start(start) for start in starts[:MOST_STARTS]],
        "starts_left_off": max(0, len(starts) - MOST_STARTS),
        "holes_left_off": found.is_cut,
        "gaps_of_unknown_starts": [_gap(gap) for gap in found.of_unknown_starts],
        "unnumbered": [
            {
                "producer": run.producer,
                "namespace": run.namespace,
                "server": run.server,
                "events": run.rows,
                "last_at": _time(run.last_at),
            }
            for run in found.unnumbered
        ],
    }


def _start(start: Start) -> dict[str, Any]:
    run, began = start.run, began_at(start.gateway_start)
    namespace, server, gateway = start.names
    return {
        "producer": start.producer,
        "namespace": namespace,
        "server": server,
        "gateway": gateway,
        "gateway_start": start.gateway_start,
        "undecided": start.is_undecided,
        "began_at": _time(began),
        "first_at": _time(run.first_at if run else None),
        "last_at": _time(run.last_at if run else None),
        "first": run.first if run else 0,
        "last": run.last if run else 0,
        "end": start.end,
        "present": run.present if run else 0,
        "missing": start.missed,
        "explained": start.explained,
        "settling": start.settling,
        "unexplained": start.unexplained,
        "duplicates": start.duplicates,
        "verdict": start.verdict,
        "tail": start.tail,
        "holes": [_hole(each) for each in start.missing],
        "gaps": [_gap(gap) | {"missing": start.missing_in(gap)} for gap in start.gaps],
        "next_step": next_step(start),
    }


def _hole(missing: Missing) -> dict[str, Any]:
    found: dict[str, Any] = {
        "first": missing.first,
        "last": missing.last,
        "count": missing.count,
        "state": "settling" if missing.is_settling else "unexplained",
    }
    if missing.gap:
        found |= {"state": "explained", "cause": missing.gap.cause}
    return found


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "first": gap.first,
        "last": gap.last,
        "count": gap.count,
        "cause": gap.cause,
        "at": _time(gap.at),
        "event_id": gap.event.event_id,
        "told_by": gap.event.gateway_start,
    }


def _total(numbers: Iterable[int]) -> int:
    """Their sum; whoever may send events may send a number that makes it larger than JSON's."""
    return min(sum(numbers), LARGEST)


def _time(moment: datetime | None) -> str | None:
    return format_instant(moment.timestamp()) if moment else None
