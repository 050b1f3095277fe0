"""Grants and sessions kept behind an api, ours or mcp-runtime's own."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

from backend.cli.console import Failure
from backend.cli.objects import Done, Kind, Which, Wire
from backend.cli.running import Api, Missing, get_json
from backend.cli.wire import to_wire
from extauthz.core.model import Binding

ANSWER_SECONDS = 60.0  # a dry run looks through a day of calls


class ApiObjects:
    """Objects, by the routes `/api/runtime/grants` and `/api/runtime/sessions`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(self, kind: Kind, which: Which) -> Sequence[Wire]:
        asked = {
            "namespace": which.namespace,
            "server": which.server,
            "human_id": which.human_id,
            "agent_id": which.agent_id,
        }
        query = urlencode({name: value for name, value in asked.items() if value})
        answer = self._ask("GET", f"/runtime/{kind.nouns}" + (f"?{query}" if query else ""))
        found: list[Wire] = answer[kind.nouns] or []  # an empty list of Go is null
        return found

    def get(self, kind: Kind, namespace: str, name: str) -> Wire:
        found: Wire = self._ask("GET", _path(kind, namespace, name))[kind.noun]
        return found

    def put(self, kind: Kind, item: Binding, *, keeps: bool, is_new: bool, is_dry: bool) -> Done:
        body = to_wire(item)
        del body["age"]
        body.setdefault("policyVersion", "")  # left out it would become the api's default
        if keeps:
            del body[kind.flag]
        headers = {"If-None-Match": "*"} if is_new else {}
        return self._changed(kind, "POST", f"/runtime/{kind.nouns}", is_dry, body, headers)

    def switch(self, kind: Kind, namespace: str, name: str, off: bool, *, is_dry: bool) -> Done:
        path = f"{_path(kind, namespace, name)}/{kind.off if off else kind.on}"
        return self._changed(kind, "POST", path, is_dry)

    def delete(self, kind: Kind, namespace: str, name: str, *, is_dry: bool) -> Done:
        return self._changed(kind, "DELETE", _path(kind, namespace, name), is_dry)

    def _changed(
        self,
        kind: Kind,
        method: str,
        path: str,
        is_dry: bool,
        body: Wire | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Done:
        if is_dry:
            self._check_dry_run()
            path += "?dryRun=true"
        answer = self._ask(method, path, body, headers)
        return Done(answer.get(kind.noun), answer.get("warnings", ()), answer.get("effect"))

    def _check_dry_run(self) -> None:
        """An api that knows of none would take the change for a real one."""
        try:
            described = "dryRun" in str(self._ask("GET", "/openapi.json"))
        except Missing:
            described = False
        if not described:
            raise Failure(
                f"{self._api.url} has no dry run; nothing was changed, leave out --dry-run"
            )

    def _ask(
        self,
        method: str,
        path: str,
        body: Wire | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        async def ask() -> Any:
            async with aiohttp.ClientSession(headers=headers) as session:
                return await get_json(
                    session,
                    self._api.at(f"/api{path}"),
                    self._api.key,
                    method=method,
                    body=body,
                    answer_seconds=ANSWER_SECONDS,
                )

        return asyncio.run(ask())


def _path(kind: Kind, namespace: str, name: str) -> str:
    return f"/runtime/{kind.nouns}/{quote(namespace, safe='')}/{quote(name, safe='')}"
