"""`/runtime/grants` and `/runtime/sessions`: who may call what, made, changed and taken back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Generic

from flask import Response

from backend.api.answers import json_response
from backend.api.filters import reach
from backend.api.governance_bodies import changed, namespace_of, whole
from backend.api.governance_changes import Governance, Servers, Wanted, check_server, warnings
from backend.api.governance_kinds import GRANTS, SESSIONS, Done, Kind
from backend.api.governance_parameters import (
    AFTER,
    AGENT,
    DRY_RUN,
    HUMAN,
    IF_MATCH,
    IF_NONE_MATCH,
    LIMIT,
    NAME,
    NAMESPACE,
    PATH_NAMESPACE,
    SERVER,
)
from backend.api.routes import GOVERN, READ, Answer, Call, Group, Needs, Route
from backend.auth.principal import Scope
from backend.ports.access_store import Binding, Stored
from extauthz.core.errors import NotFound


def governance_group(governance: Governance) -> Group:
    """Reading needs the scope `read`, changing `govern`, in the object's namespace."""
    kinds: Sequence[Kind[Any]] = (GRANTS, SESSIONS)
    return Group("governance", [r for kind in kinds for r in _Routes(governance, kind).routes()])


class _Routes(Generic[Binding]):
    """The routes of one kind."""

    def __init__(self, governance: Governance, kind: Kind[Binding]) -> None:
        self._governance = governance
        self._kind: Kind[Binding] = kind

    def routes(self) -> list[Route]:
        kind = self._kind
        all_, one = f"/runtime/{kind.nouns}", f"/runtime/{kind.nouns}/<namespace>/<name>"
        made = Answer(kind.answer)
        filters = (NAMESPACE, SERVER, HUMAN, AGENT, LIMIT, AFTER)
        named = (PATH_NAMESPACE, NAME)
        switches: list[Route] = [
            _route("POST", f"{one}/{verb}", partial(self._set, value), says, Answer(Done), named)
            for verb, value, says in (
                (kind.off, True, f"Put a {kind.noun} out of force."),
                (kind.on, False, f"Put a {kind.noun} into force again."),
            )
        ]
        put = f"Make a {kind.noun}, or replace the one of that name."
        return [
            _route("GET", all_, self._list, f"The {kind.nouns}.", Answer(kind.listed), filters),
            _route("POST", all_, self._put, put, made, (IF_NONE_MATCH,), kind.sent),
            _route("GET", one, self._get, f"One {kind.noun}.", made, named),
            _route(
                "PATCH", one, self._patch, f"Change members of a {kind.noun}.", Answer(Done),
                named, kind.patch,
            ),
            _route("DELETE", one, self._delete, f"Delete a {kind.noun}.", Answer(Done), named),
            *switches,
        ]  # fmt: skip

    def _list(self, call: Call[None]) -> Response:
        given = call.given
        within = reach(call.caller, given[NAMESPACE])
        wanted = (given[SERVER], given[HUMAN], given[AGENT])
        found = [
            each
            for each in self._governance.access.objects(self._kind.resource, given[NAMESPACE])
            if (within is None or each.resource.namespace in within)
            and _fits(each.resource, *wanted)
            and (each.resource.namespace, each.resource.name) > given[AFTER]
        ]
        page = found[: given[LIMIT] or None]
        last = page[-1].resource if len(page) < len(found) else None
        following = f"{last.namespace}/{last.name}" if last else ""
        return json_response(self._kind.listed(list(map(self._kind.form, page)), following))

    def _get(self, call: Call[None]) -> Response:
        namespace, name = self._named(call)
        return self._shown(self._governance.access.get(self._kind.resource, namespace, name))

    def _put(self, call: Call[Any]) -> Response:
        sent, kind, servers = call.body, self._kind, self._governance.servers()
        namespace = namespace_of(sent)
        reach(call.caller, namespace)

        def change(before: Binding | None) -> Binding:
            made: Binding = whole(kind.resource, sent, kind.flag, before, namespace)
            check_server(made, servers, call.caller)
            return made

        wanted = Wanted(kind.resource, namespace, sent.name, change, call.caller, servers)
        wanted = replace(wanted, may_exist=not call.given[IF_NONE_MATCH])
        after, said = self._done(call, wanted)
        assert after is not None  # `change` gives one
        return self._shown(after, **said)

    def _patch(self, call: Call[Any]) -> Response:
        servers = self._governance.servers()

        def change(before: Binding) -> Binding:
            after: Binding = changed(self._kind.resource, call.body, before)
            if after.server != before.server:
                check_server(after, servers, call.caller)
            return after

        return self._changed(call, change, servers)

    def _set(self, value: bool, call: Call[None]) -> Response:
        servers = self._governance.servers()
        return self._changed(call, lambda before: self._kind.flagged(before, value), servers)

    def _delete(self, call: Call[None]) -> Response:
        return self._changed(call, lambda _before: None, self._governance.servers())

    def _changed(
        self, call: Call[Any], change: Callable[[Binding], Binding | None], servers: Servers
    ) -> Response:
        """Change what is there."""
        namespace, name = self._named(call)

        def present(before: Binding | None) -> Binding | None:
            if before is None:
                raise NotFound(f"no {self._kind.noun} `{namespace}/{name}`; look at the list")
            return change(before)

        wanted = Wanted(self._kind.resource, namespace, name, present, call.caller, servers)
        after, said = self._done(call, wanted)
        if after is not None:
            said |= {self._kind.flag: getattr(after.resource, self._kind.flag)}
            said |= {self._kind.noun: self._kind.form(after)}
        answer = json_response(Done(success=True, name=name, namespace=namespace, **said))
        return _tagged(answer, after)

    def _done(
        self, call: Call[Any], wanted: Wanted[Binding]
    ) -> tuple[Stored[Binding] | None, dict[str, Any]]:
        """The object as it is, or would be; and what goes with the answer."""
        wanted, now = replace(wanted, expected=call.given[IF_MATCH]), call.given.now
        said: dict[str, Any] = {}
        if call.given[DRY_RUN]:
            call.caller.require(Scope.READ)
            edited, effect = self._governance.preview(wanted, now)
            said = {"dry_run": True, "effect": effect}
        else:
            edited, unrecorded = self._governance.make(wanted, now)
            said = {"warnings": list(unrecorded)}
        if edited.after is not None:
            said.setdefault("warnings", []).extend(warnings(wanted, edited.after.resource, now))
        return edited.after, said

    def _named(self, call: Call[Any]) -> tuple[str, str]:
        namespace, name = call.given[PATH_NAMESPACE], call.given[NAME]
        reach(call.caller, namespace)
        return namespace, name

    def _shown(self, stored: Stored[Binding], **said: Any) -> Response:
        members = said | {self._kind.noun: self._kind.form(stored)}
        return _tagged(json_response(self._kind.answer(**members)), stored)


def _fits(item: Any, server: str, human_id: str, agent_id: str) -> bool:
    subject = item.subject
    return (
        server in ("", item.server.name)
        and human_id in ("", subject.human_id)
        and agent_id in ("", subject.agent_id)
    )


def _tagged(answer: Response, stored: Stored[Any] | None) -> Response:
    """With the version that `If-Match` takes; a dry run's object has none."""
    if stored is not None and stored.version:
        answer.set_etag(stored.version)
    return answer


def _route(
    method: str,
    path: str,
    serve: Callable[[Call[Any]], Response],
    summary: str,
    answer: Answer,
    parameters: tuple[Any, ...],
    body: Any = None,
) -> Route:
    is_read = method == "GET"
    needs: Needs = READ if is_read else GOVERN
    conditions = () if is_read else (DRY_RUN, IF_MATCH)
    failed = () if is_read else (HTTPStatus.PRECONDITION_FAILED,)
    return Route(
        method=method,
        path=path,
        serve=serve,
        summary=summary,
        answer=answer,
        needs=needs,
        parameters=(*parameters, *conditions),
        problems=(HTTPStatus.NOT_FOUND, *failed),
        body=body,
    )
