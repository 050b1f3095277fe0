"""`/`: what agents are doing, what was denied, and why."""

from typing import Any, Final

from flask import Blueprint, render_template, request

from ui.pages.spans import RANGES, span
from ui.pages.viewer import Viewer, viewer
from ui.upstream import Api

FILTERS: Final = (
    "server", "namespace", "tool_name", "agent_id", "human_id", "decision", "reason",
)  # fmt: skip
ROWS: Final = 50
TOP: Final = 6
NEWEST: Final = 200  # denials whose reasons are counted


def new_overview(api: Api) -> Blueprint:
    """The blueprint of the overview and its live table."""
    blueprint = Blueprint("overview", __name__)

    @blueprint.get("/")
    def page() -> str:
        seen = viewer(api)
        about = span(request.args)
        usage = seen.get("/api/analytics/usage", window=about.window, limit=TOP)
        return render_template(
            "overview.html",
            viewer=seen,
            span=about,
            ranges=RANGES,
            usage=usage,
            summary=seen.get("/api/dashboard/summary"),
            audit=_audit(seen, about.since_text),
            reasons=_reasons(seen, about.since_text),
            newest=NEWEST,
            **_events(seen),
        )

    @blueprint.get("/events")
    def rows() -> str:
        """The live table alone."""
        seen = viewer(api)
        return render_template(
            "_events.html", viewer=seen, span=span(request.args), **_events(seen)
        )

    return blueprint


def _events(seen: Viewer) -> dict[str, Any]:
    given = {name: request.args.get(name, "").strip() for name in FILTERS}
    about = span(request.args)
    answer = seen.ask(
        "GET",
        "/api/events/filter",
        {
            "event_type": "mcp.request",
            "limit": ROWS,
            "since": about.since_text,
            "cursor": request.args.get("cursor", ""),
            **given,
        },
    )
    found = answer.body if answer.ok else {"events": [], "meta": {}}
    return {
        "events": found["events"],
        "next_cursor": found["meta"].get("next_cursor", ""),
        "filters": {name: value for name, value in given.items() if value},
        "names": FILTERS,
        "problem": answer.problem,
    }


def _audit(seen: Viewer, since: str) -> Any:
    """Whether the trail is whole; None for who may not know."""
    answer = seen.ask("GET", "/api/audit/completeness", {"since": since})
    return answer.body if answer.ok else None


def _reasons(seen: Viewer, since: str) -> list[tuple[str, int]]:
    """Why the newest calls were denied, the most frequent first."""
    answer = seen.ask(
        "GET", "/api/events/filter", {"decision": "deny", "since": since, "limit": NEWEST}
    )
    counts: dict[str, int] = {}
    for event in answer.body["events"] if answer.ok else []:
        counts[event.get("reason", "")] = counts.get(event.get("reason", ""), 0) + 1
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:TOP]
