"""Sidecars send events with their service accounts' tokens, as a real API server makes them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from backend.adapters.kubernetes_accounts import KubernetesAccounts
from backend.auth.principal import Origins, Principal, Scope
from backend.auth.service_accounts import AccountTokens
from extauthz.core.accounts import ANNOTATION
from extauthz.core.errors import Retryable, Unauthenticated
from extauthz.jwks import Fetch, KeyOptions
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.unit.backend.test_authentication import environ, ingest
from tests.unit.extauthz.core.objects import server

AUDIENCE = "mcp-sentinel-ingest"
SECONDS = 60
UNSIGNED = "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"  # {"alg":"RS256"}.{}
__all__ = ["environ"]


@asynccontextmanager
async def running(served: Served, ahead_seconds: float = 0.0) -> AsyncIterator[AccountTokens]:
    """A verifier that knows keys and servers; its clock may be ahead."""
    source, options = KubernetesAccounts(served.api), KeyOptions(cooldown_seconds=0.05)
    tokens = AccountTokens(source, AUDIENCE, lambda: time.time() + ahead_seconds, options)
    with pytest.raises(Retryable, match="not known yet"):
        tokens.verify([UNSIGNED])
    tasks = [asyncio.create_task(work()) for work in (tokens.ring.run, tokens.follow)]
    try:
        await until_known(tokens)
        yield tokens
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def until_known(tokens: AccountTokens) -> None:
    async with asyncio.timeout(SECONDS):
        while not tokens.is_ready:
            await asyncio.sleep(0.02)


def sidecar(cluster: KubeCluster, namespace: str, name: str = "default") -> str:
    """A token of an account that is made, where it is not there."""
    cluster.kubectl("create", "serviceaccount", name, "--namespace", namespace)
    return cluster.token(namespace, name, [AUDIENCE])


async def test_an_account_sends_for_the_servers_of_its_namespace(
    cluster: KubeCluster, served: Served, namespace: str
) -> None:
    """For no others; those that name accounts are theirs alone. It may do nothing else."""
    served.create(server("open"), namespace)
    named = server("billing")
    named["metadata"] = named["metadata"] | {"annotations": {ANNOTATION: "billing"}}
    served.create(named, namespace)
    default, billing = (sidecar(cluster, namespace, name) for name in ("default", "billing"))
    async with running(served) as tokens:
        found = tokens.verify([default])
        own = tokens.verify([billing])
    assert found == Principal(
        f"system:serviceaccount:{namespace}:default",
        frozenset({Scope.INGEST}),
        frozenset(),
        Origins(frozenset({namespace}), others=frozenset({(namespace, "billing")})),
    )
    assert found.origins is not None
    assert own.origins is not None
    for origins, name, holds in (
        *((found.origins, name, name != "billing") for name in ("open", "billing", "new")),
        *((own.origins, name, True) for name in ("open", "billing", "new")),
    ):
        assert origins.hold(namespace, name) is holds
        assert not origins.hold("default", name)


async def test_other_tokens_do_not_count(
    cluster: KubeCluster, served: Served, namespace: str
) -> None:
    """One for the API server or the controller, one of another issuer's form, one that is over."""
    good = sidecar(cluster, namespace)
    others = [
        cluster.token(namespace, "default"),
        cluster.token(namespace, "default", ["mcp-sentinel-controller"]),
    ]
    async with running(served) as tokens:
        for token in others:
            with pytest.raises(Unauthenticated, match="for another audience"):
                tokens.verify([token])
        head, _, signature = good.split(".")
        for forged in (f"{head}.e30.{signature}", good[:-8] + "AAAAAAAA"):
            with pytest.raises(Unauthenticated, match="signature is not valid"):
                tokens.verify([forged])
        assert tokens.verify(["key", good]).scopes == {Scope.INGEST}
    async with running(served, ahead_seconds=2 * 3600) as tokens:
        with pytest.raises(Unauthenticated, match="has expired"):
            tokens.verify([good])


async def test_keys_are_rotated(cluster: KubeCluster, served: Served, namespace: str) -> None:
    """A token that an unknown key signs has the keys fetched; what the old one signed is over."""
    old = sidecar(cluster, namespace)
    async with running(served) as tokens:
        tokens.verify([old])
        await asyncio.to_thread(cluster.rotate_accounts_key)
        new = sidecar(cluster, namespace)
        async with asyncio.timeout(SECONDS):
            while tokens.ring.fetches[Fetch.CHANGED] < 2:
                with suppress(Unauthenticated):
                    tokens.verify([new])
                await asyncio.sleep(0.02)
        assert tokens.verify([new]).name == f"system:serviceaccount:{namespace}:default"
        with pytest.raises(Unauthenticated):
            tokens.verify([old])


async def test_ingest_takes_them(
    cluster: KubeCluster,
    served: Served,
    namespace: str,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any key configured; an event of another's server is refused with the field."""
    served.create(server("shop"), namespace)
    named = server("billing")
    named["metadata"] = named["metadata"] | {"annotations": {ANNOTATION: "billing"}}
    served.create(named, namespace)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    token = sidecar(cluster, namespace)
    async with ingest(environ | {"SERVICE_ACCOUNT_TOKENS": "kubernetes://tests"}) as session:

        async def post(**payload: str) -> tuple[int, dict[str, Any]]:
            event = {"source": "s", "event_type": "mcp.request", "payload": payload}
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post("/events", json=event, headers=headers) as answer:
                return answer.status, json.loads(await answer.text())

        async with asyncio.timeout(SECONDS):
            while (await post(namespace=namespace, server="shop"))[0] == 503:
                await asyncio.sleep(0.02)
        assert (await post(namespace=namespace, server="shop"))[0] == 202
        for place, name, field in (
            ("default", "shop", "payload.namespace"),
            (namespace, "billing", "payload.server"),
        ):
            status, problem = await post(namespace=place, server=name)
            assert (status, problem["field"]) == (403, field)
        async with session.post("/events", json={}, headers={"x-api-key": "guess"}) as answer:
            assert answer.status == 401


def test_no_request_asks_the_api_server() -> None:
    """What verifies tokens is known before: a source that nobody may ask is not asked."""

    class Nobody:
        def issuer(self) -> str:
            raise AssertionError

        def keys(self) -> object:
            raise AssertionError

        def claims(self) -> list[Any]:
            raise AssertionError

    tokens = AccountTokens(Nobody(), AUDIENCE, time.time)
    with pytest.raises(Retryable):
        tokens.verify([UNSIGNED])
    with pytest.raises(Unauthenticated, match="no valid credential"):
        tokens.verify(["key"])
