"""The way to ingest: batches over HTTP, tried until they are answered."""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
import msgspec
import stamina

from extauthz.core.errors import Retryable, SentinelError
from extauthz.emitter.entries import Line
from extauthz.emitter.options import EmitterOptions
from extauthz.emitter.rest import SAY_EVERY_SECONDS

_log = logging.getLogger(__name__)
_MAX_RETRY_AFTER_SECONDS = 60.0
_MAX_PROBLEM_BYTES = 64 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,16384}=*")  # RFC 6750, section 2.1
_OF_ONE_EVENT = re.compile(r"\[[0-9]+\](\..*)?", re.DOTALL)  # a field like `[3].payload.server`


class BatchRefused(SentinelError):
    """Ingest will never take this batch as it stands (400, 413, 422, or a 403 of one event)."""


class Away(Retryable):
    """Ingest cannot be reached, is not well, or does not let us in.

    Args:
        why: for the log.
        after_seconds: when ingest asks to be tried again; 0 where it does not.
    """

    def __init__(self, why: str, after_seconds: float = 0.0) -> None:
        self.after_seconds = after_seconds
        super().__init__(why)


class NoToken(Away):
    """The file holds no token now; nothing was sent."""


class _Problem(msgspec.Struct):
    """Of a problem document, what tells an event's fault from the credential's."""

    field: str = ""


class Ingest:
    """A client of `POST /events`.

    Attributes:
        away: the last try failed.
    """

    def __init__(self, options: EmitterOptions, monotonic: Callable[[], float]) -> None:
        """Open no connection yet; must run inside an event loop."""
        self._url, self._token_file = options.ingest_url, options.token_file
        self._retry_max_seconds = options.retry_max_seconds
        headers = {"Content-Type": "application/x-ndjson"}
        if options.api_key:
            headers["x-api-key"] = options.api_key
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=options.request_timeout_seconds),
            connector=aiohttp.TCPConnector(limit=1),
        )
        self._monotonic = monotonic
        self._said: dict[str, tuple[str, float]] = {}
        self.away = False

    async def deliver(self, lines: Sequence[Line]) -> list[Line]:
        """Send until accepted, however long it takes.

        Returns:
            The events that ingest refuses, each found by halving the batch.
        """
        try:
            async for attempt in stamina.retry_context(
                on=_back_off,
                attempts=None,
                timeout=None,
                wait_initial=min(0.1, self._retry_max_seconds),
                wait_max=self._retry_max_seconds,
                wait_jitter=min(1.0, self._retry_max_seconds),
            ):
                with attempt:
                    await self._post(lines)
        except BatchRefused as error:
            if len(lines) == 1:
                if self._is_news("refusal", str(error)):
                    _log.warning("ingest refuses an event for good", extra={"error": str(error)})
                return list(lines)
            for line in lines:  # we cannot know whether it took the good ones
                line.resent = True
            middle = len(lines) // 2
            return await self.deliver(lines[:middle]) + await self.deliver(lines[middle:])
        return []

    async def close(self) -> None:
        await self._session.close()

    async def _post(self, lines: Sequence[Line]) -> None:
        body = b"\n".join([line.to_wire() for line in lines]) + b"\n"
        maybe_received = True
        try:
            headers = _authorization(self._token_file) if self._token_file else {}
            # No redirects: the credential goes to the configured address alone.
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                status, after = response.status, response.headers.get("Retry-After", "")
                maybe_received = status not in (401, 403, 404, 405, 429)
                names_event = status == 403 and await _names_event(response)
            _judge(status, after, names_event=names_event)
        except (aiohttp.ClientError, TimeoutError, Away) as error:
            if isinstance(error, aiohttp.ClientConnectorError | NoToken):
                maybe_received = False
            if maybe_received:
                for line in lines:
                    line.resent = True
            self.away = True
            why = str(error) or type(error).__name__
            if self._is_news("away", why):
                _log.warning("ingest is away, events go to the spool", extra={"error": why})
            if isinstance(error, Away):
                raise
            raise Away(type(error).__name__) from error
        if self.away:
            self.away = False
            self._said.pop("away", None)
            _log.info("ingest is back")

    def _is_news(self, topic: str, error: str) -> bool:
        """Whether to log it: a change at once, a repetition once a minute."""
        now = self._monotonic()
        said, when = self._said.get(topic, ("", now))
        if error == said and now - when < SAY_EVERY_SECONDS:
            return False
        self._said[topic] = error, now
        return True


def _authorization(path: Path) -> dict[str, str]:
    """Raises: NoToken."""
    try:
        token = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        raise NoToken(
            f"`{path}` cannot be read ({error.strerror}); project a token there"
        ) from error
    if not _TOKEN.fullmatch(token):
        raise NoToken(f"`{path}` holds no token; project one there")
    return {"Authorization": f"Bearer {token}"}


async def _names_event(response: aiohttp.ClientResponse) -> bool:
    """Whether a problem document lays the fault to one event of the batch."""
    if not 0 < (response.content_length or 0) <= _MAX_PROBLEM_BYTES:
        return False
    try:
        problem = msgspec.json.decode(await response.read(), type=_Problem)
    except msgspec.MsgspecError:
        return False
    return bool(_OF_ONE_EVENT.fullmatch(problem.field))


def _judge(status: int, retry_after: str, *, names_event: bool) -> None:
    """Only 202 is an acceptance: another 2xx comes from something that is not ingest."""
    if status == 202:
        return
    if status in (400, 413, 422) or names_event:
        raise BatchRefused(f"status `{status}`")
    mend = {
        401: "; check the API key, or the token's audience",
        403: "; give the credential the scope ingest",
        404: "; check the ingest URL",
    }.get(status, "")
    after = float(retry_after) if retry_after.isdecimal() else 0.0
    raise Away(f"status `{status}`{mend}", min(after, _MAX_RETRY_AFTER_SECONDS))


def _back_off(error: Exception) -> bool | float:
    if not isinstance(error, Away):
        return False
    return error.after_seconds or True
