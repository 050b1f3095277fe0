"""The cluster: what runs the components, tells how they are, and starts them again."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

import msgspec

from extauthz.core.errors import Conflict, NotFound


class Status(StrEnum):
    """How a component is; all but the last are mcp-runtime's words."""

    READY = "Ready"
    DEGRADED = "Degraded"  # it serves, and something that it needs is away
    NOT_READY = "NotReady"  # it starts, drains, or does not answer
    NOT_DEPLOYED = "NotDeployed"
    UNKNOWN = "Unknown"  # it cannot be reached from here; `message` says where to look


class Part(NamedTuple):
    """A component that Sentinel may consist of.

    Args:
        key: its name in commands and in the api.
        display: what people call it.
        is_always_told: it is told of where it does not run, too: mcp-runtime's five.
    """

    key: str
    display: str
    is_always_told: bool = False


# The one table of components, in the order in which they are told of: ours, then what they need.
PARTS: Final = (
    Part("ingest", "Ingest", is_always_told=True),
    Part("processor", "Processor", is_always_told=True),
    Part("api", "API", is_always_told=True),
    Part("ui", "UI", is_always_told=True),
    Part("gateway", "Gateway", is_always_told=True),
    Part("sidecar", "Sidecar"),
    Part("controller", "Controller"),
    Part("clickhouse", "ClickHouse"),
    Part("keeper", "ClickHouse Keeper"),
    Part("kafka", "Kafka"),
    Part("prometheus", "Prometheus"),
    Part("grafana", "Grafana"),
    Part("otel-collector", "OpenTelemetry Collector"),
    Part("tempo", "Tempo"),
    Part("loki", "Loki"),
    Part("promtail", "Promtail"),
)
DISPLAY: Final[Mapping[str, str]] = {part.key: part.display for part in PARTS}
ALWAYS_TOLD: Final = tuple(part.key for part in PARTS if part.is_always_told)
# Ours, which `all` means; a broker or a database is restarted by its name alone. First what uses
# others: the sidecar's last events find ingest there. The api, which answers, comes last.
RESTART_ORDER: Final = ("controller", "sidecar", "gateway", "ui", "ingest", "processor", "api")


def in_restart_order(keys: Iterable[str]) -> list[str]:
    """What we only use comes first."""
    order = {key: place for place, key in enumerate(RESTART_ORDER)}
    return sorted(keys, key=lambda key: order.get(key, -1))


class ComponentState(msgspec.Struct, frozen=True, kw_only=True):
    """A component as it is now.

    Args:
        key: of one of `PARTS`.
        namespace, kind, resource: what runs it; empty where that is not known.
        ready: how many of how many serve, such as `1/1`; empty where that is not known.
        message: what is wrong, with the mend; empty where nothing is.
        started_at: RFC 3339, of its last start; empty where it is not known.
        restarts: how often it was started again.
        lag: events that wait to be done with; null where it has none, or that is not known.
        last_error: the last fault it told of, which may be over; empty for none.
        policy_age_seconds: since its policy was last confirmed; of several sidecars the longest.
    """

    key: str
    display: str
    status: Status
    namespace: str = ""
    kind: str = ""
    resource: str = ""
    ready: str = ""
    message: str = ""
    version: str = ""
    started_at: str = ""
    restarts: int = 0
    lag: int | None = None
    last_error: str = ""
    policy_age_seconds: int | None = None


class SidecarState(msgspec.Struct, frozen=True, kw_only=True):
    """A sidecar that enforces the policy of a server.

    Args:
        revision: content digest of the policy that it runs; empty where it has none.
        is_ready: whether calls through it are decided.
    """

    name: str
    revision: str
    is_ready: bool


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """A governed MCP server as it runs.

    Args:
        endpoint: where MCP clients reach it.
        ready, wanted: instances that answer, of how many.
        cluster: name that its policy documents carry.
    """

    namespace: str
    name: str
    endpoint: str
    ready: int
    wanted: int
    cluster: str
    sidecars: tuple[SidecarState, ...]


class Kept(msgspec.Struct, frozen=True):
    """What a supervisor tells of what it runs, as JSON on its socket."""

    components: tuple[ComponentState, ...]
    servers: tuple[ServerState, ...]


class Cluster(Protocol):
    """Blocking: call it from a thread, and never from the event loop's own."""

    def components(self) -> Sequence[ComponentState]:
        """Each component once, in the order of `PARTS`.

        What cannot be reached is told as unknown; nothing is raised for it.
        """

    def servers(self) -> Sequence[ServerState]:
        """Those that it knows to run. Raises: Retryable."""

    def restart(self, keys: Sequence[str]) -> None:
        """Begin to start components again, one after the other; the api comes last.

        It returns before they are drained: their states tell when they serve again.

        Raises:
            NotFound: one is not deployed. None is restarted then.
            Conflict: one cannot be restarted from here, or the process is ending.
            Retryable: what runs it does not answer.
        """


def require_restartable(key: str, states: Sequence[ComponentState]) -> None:
    """Raises: NotFound: it does not run. Conflict: it cannot be reached."""
    state = next((each for each in states if each.key == key), None)
    if state is None or state.status is Status.NOT_DEPLOYED:
        raise NotFound(f"the component `{key}` is not deployed here; restart one that is")
    if state.status is Status.UNKNOWN:
        raise Conflict(f"`{key}` cannot be restarted from here: {state.message}")


def not_deployed(key: str, why: str) -> ComponentState:
    """The state of a component that does not run at all."""
    return ComponentState(
        key=key, display=DISPLAY[key], status=Status.NOT_DEPLOYED, ready="0/0", message=why
    )


def unknown(key: str, mend: str) -> ComponentState:
    """The state of a component that cannot be reached."""
    return ComponentState(key=key, display=DISPLAY[key], status=Status.UNKNOWN, message=mend)
