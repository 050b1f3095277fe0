"""`/audit/completeness`: whether the audit trail is whole."""

from datetime import timedelta
from typing import Final

from flask import Response

from backend.api.answers import json_response
from backend.api.audit_report import CompletenessReport, described
from backend.api.parameters import Given, moment
from backend.api.refusals import bad_parameter
from backend.api.routes import READ_EVERYWHERE, Answer, Call, Group, get
from backend.api.survey import Survey, survey
from backend.ports.event_store import EventStore

DEFAULT_SINCE: Final = timedelta(hours=1)
FORGETTING: Final = timedelta(hours=1)  # before it is due, the store may drop what lies around
SINCE: Final = moment("since", "Where to begin; an hour ago when it is left out")
UNTIL: Final = moment("until", "Where to end; now when it is left out")


def audit_group(store: EventStore, retention: timedelta | None) -> Group:
    """Reads the trail; the scope `read`, for all namespaces.

    Args:
        retention: how long events are kept; None for ever.
    """

    def completeness(call: Call[None]) -> Response:
        return json_response(described(_surveyed(store, call.given, retention)))

    route = get(
        "/audit/completeness",
        completeness,
        "Whether the audit trail is whole.",
        Answer(CompletenessReport),
        SINCE,
        UNTIL,
        needs=READ_EVERYWHERE,
    )
    return Group("audit", [route])


def _surveyed(store: EventStore, given: Given, retention: timedelta | None) -> Survey:
    now = given.now
    since, until = given[SINCE] or now - DEFAULT_SINCE, given[UNTIL] or now
    if since >= until:
        raise bad_parameter("since", "is not before `until`", "ask for an earlier `since`")
    if retention:  # what was kept long enough is gone, and not missing
        since = max(since, now - retention + FORGETTING)
    if since >= until:
        raise bad_parameter("until", "lies before all that is kept", "ask for a later `until`")
    return survey(store, since, until, now)
