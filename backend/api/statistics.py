"""`/stats`, `/sources`, `/event-types`, `/dashboard/summary`: the trail at a glance."""

from typing import Final

import msgspec
from flask import Response

from backend.api.answers import json_response
from backend.api.filters import reach
from backend.api.routes import Answer, Call, Group, get
from backend.ports.access_store import AccessStore
from backend.ports.event_store import EventStore
from backend.queries import CountedBy
from extauthz.core.times import format_instant

NONE: Final = "-"  # what existing dashboards show where there is nothing


class Stats(msgspec.Struct, frozen=True):
    """How many events there are, internal types left out."""

    events_total: int


class SourceCount(msgspec.Struct, frozen=True):
    """Events of one source."""

    source: str
    count: int


class Sources(msgspec.Struct, frozen=True):
    """The greatest first."""

    sources: list[SourceCount]


class TypeCount(msgspec.Struct, frozen=True):
    """Events of one type."""

    event_type: str
    count: int


class EventTypes(msgspec.Struct, frozen=True):
    """The greatest first."""

    event_types: list[TypeCount]


class DashboardSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """Without events, source and type are `-`, and there is no `last_event_time`."""

    total_events: int
    active_servers: int
    active_grants: int
    active_sessions: int
    latest_source: str
    last_event_type: str
    last_event_time: str = ""


def statistics_group(store: EventStore, access: AccessStore) -> Group:
    """Counts; the scope `read`, limited to the caller's namespaces."""

    def stats(call: Call[None]) -> Response:
        return json_response(Stats(store.summary(reach(call.caller)).events))

    def sources(call: Call[None]) -> Response:
        counts = store.counts_by(CountedBy.SOURCE, reach(call.caller))
        return json_response(Sources([SourceCount(each.value, each.events) for each in counts]))

    def event_types(call: Call[None]) -> Response:
        counts = store.counts_by(CountedBy.EVENT_TYPE, reach(call.caller))
        return json_response(EventTypes([TypeCount(each.value, each.events) for each in counts]))

    def dashboard(call: Call[None]) -> Response:
        within = reach(call.caller)
        found = store.summary(within)
        latest = found.latest
        grants, sessions = _active(access, within)
        answer = DashboardSummary(
            total_events=found.events,
            active_servers=found.active_servers,
            active_grants=grants,
            active_sessions=sessions,
            latest_source=latest.source if latest else NONE,
            last_event_type=latest.event_type if latest else NONE,
            last_event_time=format_instant(latest.event_time.timestamp()) if latest else "",
        )
        return json_response(answer)

    return Group(
        "statistics",
        [
            get(
                "/stats",
                stats,
                "How many events there are, internal types left out.",
                Answer(Stats),
            ),
            get("/sources", sources, "Events by source.", Answer(Sources)),
            get("/event-types", event_types, "Events by type.", Answer(EventTypes)),
            get(
                "/dashboard/summary",
                dashboard,
                "What a dashboard begins with.",
                Answer(DashboardSummary),
            ),
        ],
    )


def _active(access: AccessStore, within: frozenset[str] | None) -> tuple[int, int]:
    """Grants that are not disabled, sessions that are not revoked."""
    namespaces = [""] if within is None else sorted(within)
    grants = sum(not each.disabled for name in namespaces for each in access.grants(name))
    sessions = sum(not each.revoked for name in namespaces for each in access.sessions(name))
    return grants, sessions
