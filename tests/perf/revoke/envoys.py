"""Whole sidecars, Envoy and decision point, with calls in flight."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from extauthz.sources.stream.options import StreamOptions
from tests.perf.revoke.fleet import Fleet, running
from tests.tools.envoy_process import running_sidecar
from tests.tools.point_process import running_point
from tests.tools.ports import free_port


@contextmanager
def calling(all_options: Sequence[StreamOptions]) -> Iterator[Fleet]:
    """A sidecar for each, and connections that call through all of them."""
    upstream = free_port()
    with ExitStack() as opened:
        ports = [opened.enter_context(_sidecar(each, upstream)) for each in all_options]
        words = ["tests.perf.revoke.calls", str(upstream), *map(str, ports)]
        yield opened.enter_context(running([words]))


@contextmanager
def _sidecar(options: StreamOptions, upstream: int) -> Iterator[int]:
    """The port of its Envoy."""
    folder = options.store.parent
    settings = {
        "ACCESS_DIR": "",
        "POLICY_STREAM": options.address,
        "POLICY_STREAM_TOKEN_FILE": str(options.token_file),
        "POLICY_STREAM_CA_FILE": str(options.ca_file),
        "MCP_SERVER_NAME": options.server,
        "MCP_SERVER_NAMESPACE": options.namespace,
    }
    url = f"http://127.0.0.1:{upstream}"
    with running_point(folder, "", **settings), running_sidecar(url, folder) as envoy:
        yield envoy.port
