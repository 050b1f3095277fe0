"""`/events/<id>`: one event, and why it was decided so."""

from typing import Any

from flask import Blueprint, render_template, request

from ui.pages.viewer import Viewer, viewer
from ui.upstream import Api


def new_events(api: Api) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("events", __name__)

    @blueprint.get("/events/<event_id>")
    def page(event_id: str) -> str:
        """Whole, or its part alone for the drawer."""
        seen = viewer(api)
        event = seen.get(f"/api/events/{event_id}")
        event = event.get("event", event)
        template = "_event.html" if request.headers.get("HX-Request") else "event.html"
        return render_template(
            template, viewer=seen, event=event, explained=_explained(seen, event)
        )

    return blueprint


def _explained(seen: Viewer, event: dict[str, Any]) -> Any:
    """Row by row; None for what is no decision, or cannot be explained."""
    request_id = event["payload"].get("request_id")
    if not request_id or event["event_type"] != "mcp.request":
        return None
    answer = seen.ask("GET", f"/api/runtime/explain/{request_id}")
    return answer.body if answer.ok else {"problem": answer.problem}
