"""Whom the stream source believes, and what it shows of itself: TLS and tokens."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.tools.scripted_authority import ScriptedAuthority
from tests.tools.scripted_controller import Publisher, ScriptedController, Session
from tests.tools.waiting import soon
from tests.unit.extauthz.sources.stream_world import ALLOWED, DENIED, World, document, grant

OPEN = document(grant("ops"))


def files(folder: Path, authority: ScriptedAuthority) -> dict[str, Any]:
    """Token and authority, as they are mounted."""
    (folder / "token").write_text("t0ken.a_b-c\n")
    (folder / "ca.crt").write_bytes(authority.pem)
    return {"token_file": folder / "token", "ca_file": folder / "ca.crt"}


async def test_tls(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """A controller whose certificate is for its name is followed, with the token."""
    authority, publisher = ScriptedAuthority(), Publisher(OPEN)
    async with (
        ScriptedController(publisher, tls=authority.sign("localhost")) as controller,
        World(
            controller.port, tmp_path, host="localhost", **files(tmp_path, authority)
        ).running() as world,
    ):
        await world.decides(ALLOWED)
        assert controller.sessions[0].token == "t0ken.a_b-c"
        assert "t0ken" not in log.text + str(world.source.describe()) + repr(world.options)


@pytest.mark.parametrize("name", ["other.example.com", "127.0.0.9"])
async def test_another_name(name: str, tmp_path: Path) -> None:
    """A certificate for another name is refused, whoever signed it; the token stays here."""
    authority, publisher = ScriptedAuthority(), Publisher(OPEN)
    async with (
        ScriptedController(publisher, tls=authority.sign(name)) as controller,
        World(controller.port, tmp_path, **files(tmp_path, authority)).running() as world,
    ):
        await world.faulty("is not the one that is trusted (UNAVAILABLE:")
        assert "set POLICY_STREAM_CA_FILE to who signs its certificate" in world.faults
        assert controller.sessions == []


async def test_authority_rotates(tmp_path: Path) -> None:
    """Another authority counts from the next stream on, without a restart."""
    old, new, publisher = ScriptedAuthority(), ScriptedAuthority(), Publisher(OPEN)
    settings = files(tmp_path, old)
    async with (
        ScriptedController(publisher, tls=new.sign("127.0.0.1")) as controller,
        World(controller.port, tmp_path, **settings).running() as world,
    ):
        await world.faulty("is not the one that is trusted")
        (tmp_path / "ca.crt").write_bytes(old.pem + new.pem)
        await world.decides(ALLOWED)
        await world.mended()


async def test_plaintext_controller(tmp_path: Path) -> None:
    """One that speaks no TLS gets no token."""
    publisher = Publisher(OPEN)
    async with ScriptedController(publisher) as controller:
        settings = files(tmp_path, ScriptedAuthority())
        async with World(controller.port, tmp_path, **settings).running() as world:
            await world.faulty(f"stream 127.0.0.1:{controller.port}: ")
            assert controller.sessions == []


async def test_token_rotates(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """An expired token is told, and the next one taken as soon as it is there."""
    publisher = Publisher(OPEN)
    valid = "old-secret"
    cut = asyncio.Event()

    async def script(session: Session) -> None:
        if session.token != valid:
            await session.refuse(grpc.StatusCode.UNAUTHENTICATED, f"expired: {session.token}")
        serving = asyncio.create_task(publisher(session))
        await cut.wait()
        serving.cancel()
        await session.refuse(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")

    token = tmp_path / "token"
    token.write_text("old-secret")
    async with (
        ScriptedController(script) as controller,
        World(controller.port, tmp_path, token_file=token).running() as world,
    ):
        await world.decides(ALLOWED)
        valid = "new-secret"
        cut.set()
        await world.faulty("does not take the token (UNAUTHENTICATED: ")
        last = "expired: (hidden)"
        await soon(lambda: last in str(world.source.describe()["last_error"]), last)
        assert world.decide() == ALLOWED
        cut.clear()
        token.write_text("new-secret")
        await world.mended()
        await publisher.publish(document())
        await world.decides(DENIED)
        told = log.text + str(world.source.describe())
        assert "old-secret" not in told
        assert "new-secret" not in told


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be used (No such file or directory); name a readable file"),
        (b"", "cannot be used (it holds no token)"),
        (b"two words", "cannot be used (it holds no token)"),
        (b"a\nb", "cannot be used (it holds no token)"),
        (b"\xff\xfe", "cannot be used (it holds no token)"),
        (b"a" * 20_000, "cannot be used (it holds no token)"),
    ],
)
async def test_bad_token_files(content: bytes | None, fault: str, tmp_path: Path) -> None:
    """A file that holds no token is told by its name, never by what it holds, until it does."""
    token, publisher = tmp_path / "token", Publisher(OPEN)
    if content is not None:
        token.write_bytes(content)
    async with (
        ScriptedController(publisher) as controller,
        World(controller.port, tmp_path, token_file=token).running() as world,
    ):
        await world.faulty(f"POLICY_STREAM_TOKEN_FILE {token}: {fault}")
        assert controller.sessions == []
        token.write_text("fine")
        await world.decides(ALLOWED)
        await world.mended()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
async def test_bad_authority_files(content: bytes | None, tmp_path: Path) -> None:
    """A file that holds no certificate is told by its name, until it does."""
    authority, publisher = ScriptedAuthority(), Publisher(OPEN)
    settings = files(tmp_path, authority)
    ca_file = settings["ca_file"]
    ca_file.unlink()
    if content is not None:
        ca_file.write_bytes(content)
    async with (
        ScriptedController(publisher, tls=authority.sign("127.0.0.1")) as controller,
        World(controller.port, tmp_path, **settings).running() as world,
    ):
        await world.faulty(f"POLICY_STREAM_CA_FILE {ca_file}: cannot be used (")
        ca_file.write_bytes(authority.pem)
        await world.decides(ALLOWED)
