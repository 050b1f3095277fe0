"""`/runtime/components`: how each part of Sentinel is."""

from datetime import datetime

import msgspec
from flask import Response

from backend.api.answers import json_response
from backend.api.routes import READ_EVERYWHERE, Answer, Call, Group, get
from backend.ports.cluster import Cluster, ComponentState
from extauthz.core.times import parse_instant


class Component(ComponentState, frozen=True, kw_only=True):
    """A part of Sentinel.

    `status`: `Ready`; `Degraded` (it serves, and something that it needs is away); `NotReady`
    (it starts, drains or does not answer); `NotDeployed`; `Unknown` (it cannot be reached from
    here). `ready` is how many of how many serve. `lag` counts the events that wait to be done
    with; null where it has none, or that is not known. `last_error` may be over.
    """

    uptime_seconds: int | None


class Components(msgspec.Struct, frozen=True):
    """Those of mcp-runtime's first."""

    components: list[Component]


def components_group(cluster: Cluster) -> Group:
    """The scope `read`, for all namespaces: components serve them all."""

    def listed(call: Call[None]) -> Response:
        found = [_component(each, call.given.now) for each in cluster.components()]
        return json_response(Components(found))

    route = get(
        "/runtime/components",
        listed,
        "How each part of Sentinel is.",
        Answer(Components),
        needs=READ_EVERYWHERE,
    )
    return Group("components", [route])


def _component(state: ComponentState, now: datetime) -> Component:
    uptime = None
    if state.started_at:
        uptime = max(0, int(now.timestamp() - parse_instant(state.started_at, "started_at")))
    return Component(**msgspec.structs.asdict(state), uptime_seconds=uptime)
