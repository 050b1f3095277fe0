"""Asks the supervisor of `sentinel up`, over its socket, for what runs beside the backend."""

from collections.abc import Sequence
from typing import Final

import aiohttp
import msgspec

from backend.ports.cluster import ComponentState, Kept, ServerState
from extauthz.core.errors import Retryable

ANSWER_SECONDS: Final = 5.0
RESTART_SECONDS: Final = 120.0  # a drain and a start, each under its own deadline
_KEPT: Final = msgspec.json.Decoder(Kept)


class Keeper:
    """Client of the supervisor; every call opens a connection of its own.

    Args:
        path: of its socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    async def components(self) -> Sequence[ComponentState]:
        """Raises: Retryable."""
        return (await self._kept()).components

    async def servers(self) -> Sequence[ServerState]:
        """Raises: Retryable."""
        return (await self._kept()).servers

    async def restart(self, key: str) -> None:
        """Return once it serves again. Raises: Retryable."""
        await self._ask("POST", f"/restart/{key}", RESTART_SECONDS)

    async def _kept(self) -> Kept:
        try:
            return _KEPT.decode(await self._ask("GET", "/", ANSWER_SECONDS))
        except msgspec.DecodeError as error:
            mend = "stop `sentinel up`, and start it again"
            raise Retryable(f"the supervisor is of another version; {mend}") from error

    async def _ask(self, method: str, path: str, seconds: float) -> bytes:
        connector = aiohttp.UnixConnector(self._path)
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request(method, f"http://supervisor{path}") as answer,
            ):
                body = await answer.read()
                if answer.status != 200:
                    raise Retryable(body.decode("utf-8", "replace"))
                return body
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            mend = "look whether `sentinel up` still runs"
            raise Retryable(f"the supervisor does not answer; {mend}") from error
