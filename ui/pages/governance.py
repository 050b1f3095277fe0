"""`/governance`: grants and sessions, made, changed and taken back, with a preview first."""

from http import HTTPStatus
from typing import Any, Final

import yaml
from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from ui.pages.forms import GRANT, KINDS, SESSION, SIDE_EFFECTS, TRUST, Kind, filled, matches, typed
from ui.pages.viewer import Refused, Viewer, viewer
from ui.upstream import Answer, Api

MOST: Final = 500


def new_governance(api: Api, default_namespace: str, default_policy_version: str) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("governance", __name__, url_prefix="/governance")

    @blueprint.get("")
    def page() -> str:
        seen = viewer(api)
        query = request.args.get("q", "").strip()
        found = {kind.nouns: _listed(seen, kind, query) for kind in (GRANT, SESSION)}
        return render_template(
            "governance.html", viewer=seen, query=query, found=found, kinds=KINDS, most=MOST
        )

    @blueprint.get("/<nouns>/new")
    def new(nouns: str) -> str:
        """An empty form, or one that a link has filled in."""
        seen, kind = viewer(api), _kind(nouns)
        form = {name: value for name, value in request.args.items() if value}
        form.setdefault("namespace", default_namespace)
        form.setdefault("policy_version", default_policy_version)
        effects = request.args.getlist("side_effects")
        return _form(seen, kind, {**form, "side_effects": effects}, is_new=True)

    @blueprint.post("/<nouns>/new")
    def create(nouns: str) -> str | Response | tuple[str, int]:
        return _sent(viewer(api), _kind(nouns), is_new=True)

    @blueprint.get("/<nouns>/<namespace>/<name>")
    def edit(nouns: str, namespace: str, name: str) -> str:
        seen, kind = viewer(api), _kind(nouns)
        answer = seen.ask("GET", f"{kind.path}/{namespace}/{name}")
        if not answer.ok:
            raise Refused(answer)
        item = answer.body[kind.noun]
        form = {**filled(item, kind), "version": answer.version}
        return _form(seen, kind, form, is_new=False, item=item)

    @blueprint.post("/<nouns>/<namespace>/<name>")
    def change(nouns: str, namespace: str, name: str) -> str | Response | tuple[str, int]:
        return _sent(viewer(api), _kind(nouns), is_new=False)

    @blueprint.post("/<nouns>/<namespace>/<name>/<action>")
    def act(nouns: str, namespace: str, name: str, action: str) -> str | Response:
        """Disable, enable, revoke, unrevoke; delete, which is asked about first."""
        seen, kind = viewer(api), _kind(nouns)
        if action == "delete":
            if "sure" not in request.form:
                effect = seen.ask("DELETE", f"{kind.path}/{namespace}/{name}", {"dryRun": "true"})
                return render_template(
                    "delete.html", viewer=seen, kind=kind, namespace=namespace, name=name,
                    effect=_effect(effect),
                )  # fmt: skip
            answer = seen.ask("DELETE", f"{kind.path}/{namespace}/{name}")
        elif action in {kind.off, kind.on}:
            answer = seen.ask("POST", f"{kind.path}/{namespace}/{name}/{action}")
        else:
            abort(HTTPStatus.NOT_FOUND)
        done = {"delete": "deleted"}.get(action, f"{action}d")
        _tell(answer, f"{kind.noun} {namespace}/{name} is {done}")
        return redirect(
            url_for("governance.page", q=request.form.get("q") or None), HTTPStatus.SEE_OTHER
        )

    return blueprint


def _kind(nouns: str) -> Kind:
    return KINDS.get(nouns) or abort(HTTPStatus.NOT_FOUND)


def _listed(seen: Viewer, kind: Kind, query: str) -> list[dict[str, Any]]:
    items = seen.get(kind.path, limit=MOST)[kind.nouns]
    return [item for item in items if not query or matches(item, query)]


def _sent(seen: Viewer, kind: Kind, *, is_new: bool) -> str | Response | tuple[str, int]:
    """Preview or make what a form says; what the api refuses is said beside the form."""
    effects = request.form.getlist("side_effects")
    body = typed(request.form, kind, effects)
    form = {**request.form.to_dict(), "side_effects": effects}
    previews = "preview" in request.form
    # Nobody replaces what they have not seen: neither another's newer one, nor one of that name.
    version = request.form.get("version", "")
    condition = {"If-None-Match": "*"} if is_new else {"If-Match": version} if version else {}
    answer = seen.ask(
        "POST", kind.path, {"dryRun": "true"} if previews else None, json=body, headers=condition
    )
    if not answer.ok:
        page = _form(seen, kind, form, is_new=is_new, refused=answer)
        return page, HTTPStatus.BAD_REQUEST
    if previews:
        return _form(seen, kind, form, is_new=is_new, effect=_effect(answer))
    name = f"{body.get('namespace', '')}/{body.get('name', '')}"
    _tell(answer, f"{kind.noun} {name} is saved")
    return redirect(url_for("governance.page"), HTTPStatus.SEE_OTHER)


def _form(seen: Viewer, kind: Kind, form: dict[str, Any], **more: Any) -> str:
    servers = seen.get("/api/runtime/servers")["servers"]
    return render_template(
        f"{kind.noun}_form.html",
        viewer=seen,
        kind=kind,
        form=form,
        servers=servers,
        levels=TRUST,
        effects=SIDE_EFFECTS,
        manifest=_manifest(more.get("item"), kind),
        **more,
    )


def _manifest(item: dict[str, Any] | None, kind: Kind) -> str:
    """What `kubectl apply` takes; empty for what is not there yet."""
    if item is None:
        return ""
    left_out = {"name", "namespace", "age", "enforced"}
    spec = {name: value for name, value in item.items() if name not in left_out and value != ""}
    resource = {
        "apiVersion": "mcpruntime.org/v1alpha1",
        "kind": "MCPAccessGrant" if kind is GRANT else "MCPAgentSession",
        "metadata": {"name": item["name"], "namespace": item["namespace"]},
        "spec": spec,
    }
    return str(yaml.safe_dump(resource, sort_keys=False, allow_unicode=True))


def _effect(answer: Answer) -> Any:
    return answer.body.get("effect") if answer.ok else {"problem": answer.problem}


def _tell(answer: Answer, done: str) -> None:
    if not answer.ok:
        flash(answer.problem, "problem")
        return
    flash(done, "done")
    for warning in answer.body.get("warnings") or ():
        flash(str(warning), "warning")
