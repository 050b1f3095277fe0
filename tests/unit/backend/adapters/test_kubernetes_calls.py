"""How the controller finds its cluster."""

from pathlib import Path

import pytest

from backend.adapters.kubernetes_calls import new_calls
from extauthz.core.errors import Invalid, Retryable
from tests.tools.ports import free_port

CONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:PORT"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: here, context: {cluster: c, user: u}}]
current-context: here
"""


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    file = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(file))
    file.write_text(CONFIG.replace("PORT", str(free_port())))
    return file


def _counted(_verb: str, _resource: str) -> None:
    return None


async def test_no_cluster_is_a_bad_setting(kubeconfig: Path) -> None:
    """Without a kubeconfig, or such a context in it, the start is refused with the mend."""
    with pytest.raises(Invalid, match=r"ACCESS_URL: finds no cluster.*set KUBECONFIG"):
        await new_calls("another", _counted)
    kubeconfig.unlink()
    with pytest.raises(Invalid, match="ACCESS_URL: finds no cluster"):
        await new_calls("", _counted)


async def test_nobody_answers(kubeconfig: Path) -> None:
    """An API server that is away may be asked again later; each call is counted."""
    counted: list[tuple[str, str]] = []
    calls = await new_calls("here", lambda *call: counted.append(call))
    with pytest.raises(Retryable, match="does not answer"):
        await calls.ask("GET", "/apis/mcpruntime.org/v1alpha1/namespaces/n/mcpservers/s/status")
    with pytest.raises(Retryable, match="does not answer"):
        await anext(calls.watch("/api/v1/namespaces/n/pods", {}))
    assert counted == [("get", "mcpservers/status"), ("watch", "pods")]
    await calls.close()
