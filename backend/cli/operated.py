"""Which Sentinel a command operates: an api, the running `sentinel up`, or a cluster."""

import functools
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from backend import wiring_cluster
from backend.cli.console import Command, Failure, warn
from backend.cli.places import KUBECONFIG, cluster_options
from backend.cli.running import Api, address_options, is_said, read_key, the_api, the_running
from backend.cli.state import Running
from backend.ports.workloads import Workloads

NAMESPACE: Final = "mcp-sentinel"  # where the components are, as mcp-runtime has them
DEFAULT_FILE: Final = Path("~/.kube/config")  # kubectl's own
_CLUSTER: Final = ("kubeconfig", "context", "use_kube")


@dataclass(frozen=True, slots=True)
class ClusterAt:
    """A cluster, as a kubeconfig names it; empty for KUBECONFIG, and its current context."""

    kubeconfig: str
    context: str

    def opened(self) -> AbstractAsyncContextManager[Workloads]:
        """Its Sentinel."""
        return wiring_cluster.opened_workloads(self.kubeconfig, self.context, NAMESPACE)


@dataclass(frozen=True, slots=True)
class UpAt:
    """A `sentinel up` that runs. Args: root: its state folder; key_file: None for its own."""

    running: Running
    root: Path
    key_file: Path | None

    @property
    def api(self) -> Api:
        """Its api. Raises: Failure: its key cannot be read."""
        key = read_key(self.key_file or Path(self.running.admin_key_file))
        return Api(self.running.endpoints.api, key)


Place = Api | UpAt | ClusterAt


def on_cluster(command: Command) -> Command:
    """Options of a command that is about clusters alone; it gets `at`, a ClusterAt."""

    @functools.wraps(command)
    def found(*, kubeconfig: Path | None, context: str, **others: Any) -> Any:
        return command(at=_named(kubeconfig, context), **others)

    return cluster_options(found)  # type: ignore[return-value]


def on_any(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that name any; the command gets `at`, a Place.

    What stands on the command line counts first, then an api's variable, then what runs here,
    then the cluster of KUBECONFIG or of kubectl's own file, which is said.
    """

    @functools.wraps(command)
    def found(
        *,
        api_url: str,
        key_file: Path | None,
        state: Path,
        kubeconfig: Path | None,
        context: str,
        use_kube: bool,
        **others: Any,
    ) -> Any:
        if any(map(is_said, _CLUSTER)):
            if is_said("api_url") or is_said("state"):
                raise click.UsageError("name a cluster, or --api or --state; not both")
            return command(at=_named(kubeconfig, context), **others)
        return command(at=_here(api_url, key_file, state), **others)

    use = click.option("--use-kube", is_flag=True, help=f"The cluster of {KUBECONFIG}.")
    return address_options(cluster_options(use(found)))


def _named(kubeconfig: Path | None, context: str) -> ClusterAt:
    return ClusterAt(str(kubeconfig) if kubeconfig else "", context)


def _here(url: str, key_file: Path | None, state: Path) -> Place:
    if url and (is_said("api_url") or not is_said("state")):
        return the_api(url, key_file, state)
    try:
        return UpAt(the_running(state), state.resolve(), key_file)
    except Failure:
        there = os.environ.get(KUBECONFIG) or DEFAULT_FILE.expanduser().is_file()
        if is_said("state") or not there:
            raise
        warn("note: no `sentinel up` runs here; using the cluster of kubectl's current context")
        return ClusterAt("", "")
