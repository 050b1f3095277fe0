"""What the decision point logs of strangers."""

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry

from extauthz import logs
from extauthz.core.decision import PolicyFacts
from extauthz.operations import Operations, Process
from extauthz.sources.policies import Policies


async def test_what_is_no_http_is_not_repeated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is sent to the port of health and metrics, nothing of it is logged."""
    monkeypatch.setattr(logging.getLogger("aiohttp.server"), "filters", [])
    before = logging.getLogger().handlers[:]
    logs.configure("debug", "json")
    policies = Policies(PolicyFacts(server="demo", namespace="home"))
    process = Process("1", 1, 0.0, "file", ())
    operations = Operations(process, policies, lambda: None, CollectorRegistry())
    await operations.start("127.0.0.1", 0)
    for raw in (
        b"GET / HTTP/1.1\r\nHost: a\r\nx-api-key: my-secret\x00\r\n\r\n",
        b'GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{"a":"my-secret"}\r\n',
        b"my-secret\r\n\r\n",
        b"GET /ready HTTP/1.1\r\nHost: a\r\nExpect: my-secret\xff\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", operations.port)
        writer.write(raw)
        await reader.read(4096)
        writer.close()
    await operations.stop()
    logging.basicConfig(handlers=before, force=True)
    assert "my-secret" not in capsys.readouterr().err
