"""Credentials as they are configured: what starts, and who gets in."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest

from backend import wiring
from backend.settings import Settings
from extauthz.core import config
from extauthz.core.errors import Invalid
from tests.tools.oidc_provider import provider
from tests.tools.ports import free_port
from tests.tools.waiting import soon

EVENT = {
    "source": "s",
    "event_type": "mcp.request",
    "payload": {"namespace": "team-a", "server": "billing"},
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "EVENT_LOG_URL": f"sqlite://{tmp_path / 'log.db'}",
        "INGEST_PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
    }


@asynccontextmanager
async def ingest(environ: dict[str, str]) -> AsyncIterator[aiohttp.ClientSession]:
    """Runs ingest; the session's paths are its own."""
    stop = asyncio.Event()
    settings = config.load(Settings, environ)
    running = asyncio.create_task(wiring.run(settings, "ingest", stop))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{environ['INGEST_PORT']}") as session:

        async def is_ready() -> bool:
            try:
                async with session.get("/ready") as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectorError:
                return running.done()

        await soon(is_ready, "ingest is ready", every=0.02)
        if not running.done():
            yield session
    stop.set()
    await running


async def post(session: aiohttp.ClientSession, **headers: str) -> int:
    async with session.post("/events", json=EVENT, headers=headers) as answer:
        return answer.status


async def test_keys_of_a_file(environ: dict[str, str], tmp_path: Path) -> None:
    """A named key is let in beside those of the plain lists."""
    entry = {"name": "billing", "scopes": ["ingest"], "namespaces": ["team-a"]}
    entry["sha256"] = sha256(b"its key").hexdigest()
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [entry, entry | {"name": "b", "namespaces": ["team-b"]}]}))
    environ |= {"API_KEYS_FILE": str(path), "INGEST_API_KEYS": "plain"}
    with pytest.raises(Invalid, match="have the same key"):
        async with ingest(environ):
            pass
    other = entry | {"name": "b", "namespaces": ["team-b"], "sha256": sha256(b"b").hexdigest()}
    path.write_text(json.dumps({"keys": [entry, other]}))
    async with ingest(environ) as session:
        assert await post(session, **{"x-api-key": "its key"}) == 202
        assert await post(session, **{"x-api-key": "plain"}) == 202
        assert await post(session, **{"x-api-key": "b"}) == 403
        assert await post(session, **{"x-api-key": "billing"}) == 401


async def test_keys_of_a_file_rotate(environ: dict[str, str], tmp_path: Path) -> None:
    """While it runs another key is taken; a file that nobody could send by is not."""
    path = tmp_path / "keys.json"

    def write(key: str, scope: str = "ingest") -> None:
        entry = {"name": "one", "scopes": [scope], "namespaces": ["team-a"]}
        entry["sha256"] = sha256(key.encode()).hexdigest()
        path.write_text(json.dumps({"keys": [entry]}))

    write("old")
    async with ingest(environ | {"API_KEYS_FILE": str(path)}) as session:
        assert await post(session, **{"x-api-key": "old"}) == 202
        write("new")

        async def is_taken() -> bool:
            return await post(session, **{"x-api-key": "new"}) == 202

        await soon(is_taken, "the new key is taken", every=0.1)
        assert await post(session, **{"x-api-key": "old"}) in (401, 429)
        write("new", "read")

        async def is_refused() -> bool:
            return "auth_key_file_refused 1.0" in await metrics_of(session)

        await soon(is_refused, "the file is refused", every=0.1)
        assert await post(session, **{"x-api-key": "new"}) == 202


async def metrics_of(session: aiohttp.ClientSession) -> str:
    async with session.get("/metrics") as answer:
        return await answer.text()


async def test_tokens_of_a_provider(environ: dict[str, str]) -> None:
    """A token is let in once its keys are fetched, where a claim says that it may send."""
    with provider("sentinel") as running:
        environ |= {
            "OIDC_ISSUER": running.issuer,
            "OIDC_AUDIENCE": "sentinel",
            "ADMIN_USERS": "root",
            "JWKS_ALLOW_LOOPBACK_HTTP": "true",
        }
        claims = {"sentinel_scopes": ["ingest"], "sentinel_namespaces": ["team-a"]}
        token = running.sign(running.claims(**claims))
        async with ingest(environ) as session:

            async def is_taken() -> bool:
                return await post(session, Authorization=f"Bearer {token}") == 202

            await soon(is_taken, "the keys are fetched", every=0.02)
            admin = running.sign(running.claims(sub="root"))
            assert await post(session, Authorization=f"Bearer {admin}") == 403
            expired = running.sign(running.claims(exp=int(time.time()) - 120, **claims))
            assert await post(session, Authorization=f"Bearer {expired}") == 401
            text = await metrics_of(session)
    assert "auth_token_keys 1.0" in text
    assert 'auth_failures_total{reason="invalid"} 1.0' in text


async def test_a_compressed_body(environ: dict[str, str]) -> None:
    """Ingest is served so that it inflates bodies itself."""
    headers = {"x-api-key": "good", "Content-Encoding": "gzip", "Content-Type": "application/json"}
    body = gzip.compress(json.dumps(EVENT).encode())
    async with ingest(environ | {"INGEST_API_KEYS": "good"}) as session:
        async with session.post("/events", data=body, headers=headers) as answer:
            assert answer.status == 202
        async with session.post("/events", data=body[:-9], headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]) == (400, "invalid_encoding")


async def test_many_failures(environ: dict[str, str]) -> None:
    """A caller without a valid credential is told to slow down; its neighbour is not."""
    async with ingest(environ | {"INGEST_API_KEYS": "good"}) as session:
        statuses = [await post(session, **{"x-api-key": "bad"}) for _ in range(70)]
        async with session.post("/events", json=EVENT) as answer:
            assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (429, True)
            assert (await answer.json())["error"] == "too_many_requests"
        assert await post(session, **{"x-api-key": "good"}) == 202
    assert (statuses[0], statuses[-1]) == (401, 429)


MISSING = [
    ({}, "INGEST_API_KEYS"),
    ({"ADMIN_API_KEYS": "a"}, "INGEST_API_KEYS"),
    ({"API_KEYS_FILE": "/nowhere/keys.yaml"}, "API_KEYS_FILE"),
    ({"OIDC_ISSUER": "https://login.example"}, "OIDC_AUDIENCE"),
    ({"AUTH": "off", "HOST": "0.0.0.0"}, "AUTH"),
]


@pytest.mark.parametrize(("credentials", "setting"), MISSING)
async def test_no_credential_no_start(
    environ: dict[str, str], credentials: dict[str, str], setting: str
) -> None:
    """Ingest does not start without a credential for it; the setting is named."""
    with pytest.raises(Invalid) as refused:
        async with ingest(environ | credentials):
            pass
    assert refused.value.field == setting
    assert refused.value.mend
