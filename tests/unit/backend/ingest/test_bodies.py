"""Bodies in an encoding, and the bounds of size and memory."""

import asyncio
import gzip
import tracemalloc
import zlib

import pytest
from backports import zstd

from backend.ingest.bodies import Hold, Room, inflate
from backend.ingest.refusals import Refused
from extauthz.core.errors import Busy
from tests.unit.backend.ingest.conftest import Client, Logged, NewClient
from tests.unit.backend.ingest.test_ingest import GOOD, MIB, with_

WIDE_WINDOW = {zstd.CompressionParameter.window_log: 27}


def huge() -> bytes:
    """A zstd frame that needs 128 MiB to be read."""
    stream = zstd.ZstdCompressor(options=WIDE_WINDOW)
    return stream.compress(b"x" * MIB) + stream.flush()


ENCODED = [
    ("gzip", gzip.compress(with_()), 202, ""),
    ("GZIP", gzip.compress(with_()), 202, ""),
    ("x-gzip", gzip.compress(with_()), 202, ""),
    ("zstd", zstd.compress(with_()), 202, ""),
    ("identity", with_(), 202, ""),
    ("gzip", with_(), 400, "invalid_encoding"),  # says so and is not
    ("zstd", with_(), 400, "invalid_encoding"),
    ("zstd", gzip.compress(with_()), 400, "invalid_encoding"),
    ("gzip", b"", 400, "invalid_encoding"),
    ("zstd", b"", 400, "invalid_encoding"),
    ("gzip", gzip.compress(with_())[:-1], 400, "invalid_encoding"),  # cut short
    ("zstd", zstd.compress(with_())[:-1], 400, "invalid_encoding"),
    ("gzip", gzip.compress(with_())[:-8] + b"12345678", 400, "invalid_encoding"),  # checksum
    ("gzip", gzip.compress(with_()) + b"more", 400, "invalid_encoding"),
    ("gzip", gzip.compress(with_()) + gzip.compress(with_()), 400, "invalid_encoding"),
    ("zstd", zstd.compress(with_()) + b"more", 400, "invalid_encoding"),
    ("zstd", huge(), 400, "invalid_encoding"),
    ("gzip", gzip.compress(b"{"), 400, "invalid_json"),
    ("gzip", gzip.compress(b" " * (8 * MIB) + with_()), 413, "too_large"),  # small outside
    ("zstd", zstd.compress(b" " * (8 * MIB) + with_()), 413, "too_large"),
    ("gzip", gzip.compress(with_(payload="x" * MIB)), 413, "too_large"),
    ("deflate", zlib.compress(with_()), 415, "unsupported_media_type"),
    ("br", with_(), 415, "unsupported_media_type"),
    ("gzip, gzip", gzip.compress(gzip.compress(with_())), 415, "unsupported_media_type"),
]


@pytest.mark.parametrize(("encoding", "body", "status", "error"), ENCODED)
async def test_encodings(
    client: Client, logged: Logged, encoding: str, body: bytes, status: int, error: str
) -> None:
    """gzip and zstd are read, one whole stream, within the bounds of what is inside."""
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    answer = await client.post("/events", data=body, headers=headers)
    problem = await answer.json()
    assert (answer.status, problem.get("error", "")) == (status, error)
    if status == 415:
        assert answer.headers["Accept-Encoding"] == "gzip, zstd"
        assert problem["field"] == "Content-Encoding"
    assert len(await logged.records()) == (1 if status == 202 else 0)
    metrics = await (await client.get("/metrics")).text()
    assert "ingest_held_bytes 0.0" in metrics


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_costs_its_bound(encoding: str) -> None:
    """What inflates to much more than it may takes no more memory than it may."""
    compress = gzip.compress if encoding == "gzip" else zstd.compress
    bomb = compress(bytes(64 * MIB))
    tracemalloc.start()
    with pytest.raises(Refused, match="exceeds"):
        inflate(bomb, encoding, MIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MIB


def test_exactly_the_bound() -> None:
    """A body of just the bound is taken."""
    for encoding, body in (
        ("gzip", gzip.compress(bytes(MIB))),
        ("zstd", zstd.compress(bytes(MIB))),
    ):
        assert inflate(body, encoding, MIB) == bytes(MIB)


async def test_a_body_of_unknown_length(new_client: NewClient, logged: Logged) -> None:
    """Chunks are added up; too many of them are too large."""
    client = await new_client(request_bytes=MIB)

    async def chunks(count: int) -> object:
        for _ in range(count):
            yield b" " * 65_536
        yield with_()

    headers = {"Content-Type": "application/json"}
    answer = await client.post("/events", data=chunks(2), headers=headers)
    assert answer.status == 202
    answer = await client.post("/events", data=chunks(17), headers=headers)
    assert (answer.status, (await answer.json())["error"]) == (413, "too_large")
    assert len(await logged.records()) == 1


async def test_a_room_that_is_full(new_client: NewClient, logged: Logged) -> None:
    """More than all requests together may hold answers 503; what is given back serves others."""
    client = await new_client(held_bytes=MIB)
    answer = await client.post("/events", json=GOOD | {"payload": "x" * (MIB - 1000)})
    assert (answer.status, (await answer.json())["error"]) == (503, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert await logged.records() == []
    assert (await client.post("/events", json=GOOD)).status == 202


async def test_a_body_that_does_not_come(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for it is bounded, and its room is given back."""
    monkeypatch.setattr("backend.ingest.bodies.READ_SECONDS", 0.05)
    never = asyncio.Event()

    async def slow() -> object:
        yield b"{"
        await never.wait()

    answer = await client.post("/events", data=slow(), headers={"Content-Type": "application/json"})
    assert (answer.status, (await answer.json())["error"]) == (408, "request_timeout")
    never.set()
    assert "ingest_held_bytes 0.0" in await (await client.get("/metrics")).text()


def test_a_hold_gives_back_what_it_took() -> None:
    """Whatever a request grew to."""
    room = Room(100)
    one, other = Hold(room), Hold(room)
    one.grow(60)
    other.grow(40)
    with pytest.raises(Busy):
        other.grow(1)
    one.shrink(20)
    other.grow(20)
    one.release()
    other.release()
    assert room.held_bytes == 0
