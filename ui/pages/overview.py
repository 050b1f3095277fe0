"""`/`: what agents are doing."""

from flask import Blueprint, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from ui.signing_in import who
from ui.upstream import Api


def new_overview(api: Api) -> Blueprint:
    """The blueprint of the overview."""
    blueprint = Blueprint("overview", __name__)

    @blueprint.get("/")
    def page() -> str | Response:
        principal = who(api)
        if principal is None:
            session.pop("credential", None)
            return redirect(url_for("login.form", next=request.full_path.rstrip("?")))
        summary = api.call("GET", "/api/dashboard/summary", session["credential"])
        return render_template("overview.html", principal=principal, summary=summary)

    return blueprint
