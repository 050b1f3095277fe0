"""`/operations`: how each part is, restarted where it must be; who changed what."""

from http import HTTPStatus
from typing import Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from ui.pages.viewer import viewer
from ui.upstream import Api

CHANGES: Final = 50


def new_operations(api: Api) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("operations", __name__, url_prefix="/operations")

    @blueprint.get("")
    def page() -> str:
        seen = viewer(api)
        components = seen.ask("GET", "/api/runtime/components")
        if request.headers.get("HX-Request"):  # its live part alone
            return render_template("_components.html", viewer=seen, components=components)
        asked = {"event_type": "governance.change", "limit": CHANGES}
        return render_template(
            "operations.html",
            viewer=seen,
            components=components,
            servers=seen.ask("GET", "/api/runtime/servers"),
            changes=seen.ask("GET", "/api/events", asked),
        )

    @blueprint.post("/restart")
    def restart() -> str | Response:
        """Asked about first."""
        seen, key = viewer(api), request.form.get("component", "")
        if "sure" not in request.form:
            return render_template("restart.html", viewer=seen, component=key)
        body = {"all": True} if key == "all" else {"component": key}
        answer = seen.ask("POST", "/api/runtime/actions/restart", json=body)
        if answer.ok:
            flash(f"{'every component' if key == 'all' else key} is restarted", "done")
        else:
            flash(answer.problem, "problem")
        return redirect(url_for("operations.page"), HTTPStatus.SEE_OTHER)

    return blueprint
