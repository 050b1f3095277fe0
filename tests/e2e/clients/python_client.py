"""Drive the official Python SDK's client: `python_client.py legacy|auto`.

Reads one JSON object `{url, headers, actions}` from standard input and prints one JSON line per
action, in order. README.md lists the actions and the answer's members.
"""

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any

import anyio
import httpx2
from mcp import Client, MCPError
from mcp import types as mcp_types
from mcp.client.streamable_http import streamable_http_client

TIMEOUT = httpx2.Timeout(90)


class Driver:
    """One client session and what it saw on the wire."""

    def __init__(self, mode: str, url: str, headers: dict[str, str]) -> None:
        self.mode = mode
        self.url = url
        self.headers = headers
        self.http_status: int | None = None
        self.posted = anyio.Event()

    async def run(self, actions: list[dict[str, Any]]) -> None:
        """Connect, do every action and print its answer."""
        printed = 0
        http = httpx2.AsyncClient(
            headers=self.headers, timeout=TIMEOUT, event_hooks={"response": [self._saw]}
        )
        try:
            async with (
                http,
                Client(
                    streamable_http_client(self.url, http_client=http), mode=self.mode
                ) as client,
            ):
                for action in actions:
                    print(json.dumps(await self._answer(client, action)), flush=True)
                    printed += 1
        except Exception as error:
            for action in actions[printed:]:
                answer = {"action": action["action"], "stage": "connect", "progress": []}
                answer |= self._failure(error)
                print(json.dumps(answer), flush=True)

    async def _saw(self, response: httpx2.Response) -> None:
        if response.request.method == "POST":
            # 202 answers a notification: one from before may come after the answer to a call.
            if self.http_status is None or response.status_code != HTTPStatus.ACCEPTED:
                self.http_status = response.status_code
            self.posted.set()

    async def _answer(self, client: Client, action: dict[str, Any]) -> dict[str, Any]:
        progress: list[dict[str, Any]] = []
        answer: dict[str, Any] = {"action": action["action"], "stage": "action"}
        self.http_status = None
        try:
            result = await self._do(client, action, progress)
            answer |= {"ok": True, "result": result, "http_status": self.http_status}
        except Exception as error:
            answer |= self._failure(error)
        return answer | {"progress": progress}

    def _failure(self, error: BaseException) -> dict[str, Any]:
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        typed = isinstance(error, MCPError)
        return {
            "ok": False,
            "error": {
                "type": type(error).__name__,
                "code": error.code if typed else None,
                "message": str(error),
                "data": error.data if typed else None,
                "http_status": self.http_status,
            },
        }

    async def _do(
        self, client: Client, action: dict[str, Any], progress: list[dict[str, Any]]
    ) -> object:
        match action["action"]:
            case "connect":
                return {"protocolVersion": client.protocol_version}
            case "list_tools":
                return _plain(await client.list_tools())
            case "list_resources":
                return _plain(await client.list_resources())
            case "list_prompts":
                return _plain(await client.list_prompts())
            case "read_resource":
                return _plain(await client.read_resource(action["uri"]))
            case "get_prompt":
                return _plain(await client.get_prompt(action["name"], action.get("arguments")))
            case "call_tool":
                return await _call(client, action, progress)
            case "cancel_tool":
                return await _cancel(client, action, progress)
            case "notify":
                await self._notify(client, action)
                return {}
            case "sleep":
                await anyio.sleep(action["seconds"])
                return {}
            case unknown:
                raise ValueError(f"unknown action `{unknown}`: see README.md")

    async def _notify(self, client: Client, action: dict[str, Any]) -> None:
        """Send a notification; the SDK returns before it is on the wire, so wait for the answer."""
        self.posted = anyio.Event()
        await client.session.send_notification(
            mcp_types.Notification[dict[str, Any] | None, str](
                method=action["method"], params=action.get("params")
            )
        )
        with anyio.fail_after(TIMEOUT.read):
            await self.posted.wait()


async def _call(
    client: Client, action: dict[str, Any], progress: list[dict[str, Any]]
) -> dict[str, Any]:
    async def told(done: float, total: float | None, message: str | None) -> None:
        progress.append({"progress": done, "total": total, "message": message})

    return _plain(
        await client.call_tool(
            action["name"],
            action.get("arguments"),
            progress_callback=told if action.get("progress") else None,
        )
    )


async def _cancel(
    client: Client, action: dict[str, Any], progress: list[dict[str, Any]]
) -> dict[str, Any]:
    """Call, and cancel after so many progress notifications."""
    enough = action.get("after_progress", 1)
    with anyio.CancelScope() as scope:

        async def told(done: float, total: float | None, message: str | None) -> None:
            progress.append({"progress": done, "total": total, "message": message})
            if len(progress) == enough:
                scope.cancel()

        await client.call_tool(action["name"], action.get("arguments"), progress_callback=told)
    return {"cancelled": scope.cancelled_caught}


def _plain(value: Any) -> dict[str, Any]:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


if __name__ == "__main__":
    task = json.load(sys.stdin)
    asyncio.run(Driver(sys.argv[1], task["url"], task["headers"]).run(task["actions"]))
