"""Whether callers reach a server's own port, past its sidecar. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from backend.controller.conditions import BYPASSABLE
from backend.ports.control_plane import Condition, Observed, Standing
from backend.ports.network import NETWORK_KINDS, NetworkObject, NetworkPolicy, Pod, Ports, Service
from extauthz.core.decision import ObjectRef
from extauthz.core.governance import Key

SIDECAR_PORTS: Final = frozenset({8091, 9103})  # of Envoy; metrics and probes
OTHER_WAYS: Final = frozenset({"loopback", "redirect"})  # to close the server's own port
_MEND: Final = "admit port 8091 alone (docs/kubernetes.md)"


class Exposure:
    """Knows all Services and NetworkPolicies, by namespace.

    What is not known keeps what a status says: a controller that starts has seen no pod yet.

    Args:
        pods: of a server, those whose sidecars are connected.
        changed: called with the namespace in which something changed; empty: it may be any.
    """

    def __init__(
        self,
        pods: Callable[[ObjectRef], Sequence[Pod]],
        changed: Callable[[str], None],
    ) -> None:
        self._pods, self._changed = pods, changed
        self._known: dict[tuple[str, str], dict[Key, NetworkObject]] = {}
        self._listed: set[str] = set()

    def forget(self) -> None:
        """What was known is not followed any more."""
        self._known.clear()
        self._listed.clear()

    def listed(self, kind: str, items: Sequence[NetworkObject], _gone: Sequence[Key]) -> None:
        """Take all of a kind."""
        for place in [each for each in self._known if each[0] == kind]:
            del self._known[place]
        for each in items:
            self._known.setdefault((kind, each.key.namespace), {})[each.key] = each
        self._listed.add(kind)
        self._changed("")

    def changed(self, observed: Observed[NetworkObject]) -> None:
        """Take one change."""
        key = observed.key
        assert key
        there = self._known.setdefault((key.kind, key.namespace), {})
        if observed.standing is None:
            there.pop(key, None)
        else:
            there[key] = observed.standing
        if not there:
            del self._known[key.kind, key.namespace]
        self._changed(key.namespace)

    def condition(self, standing: Standing) -> Condition | None:
        """Of a server; None where nobody gets past its sidecars."""
        namespace = standing.key.namespace
        pods = self._pods(ObjectRef(namespace, standing.key.name))
        if not pods or self._listed != set(NETWORK_KINDS):
            return next((each for each in standing.conditions if each.type == BYPASSABLE), None)
        known = [
            each
            for kind in NETWORK_KINDS
            for each in self._known.get((kind, namespace), {}).values()
        ]
        services = [each for each in known if isinstance(each, Service)]
        policies = [each for each in known if isinstance(each, NetworkPolicy)]
        unlike = {_traits(pod): pod for pod in pods}.values()  # replicas are alike
        found = sorted(ways for pod in unlike for ways in _ways(pod, services, policies))
        if not found:
            return None
        _, reason, message = found[0]
        return Condition(BYPASSABLE, "True", reason, message, standing.generation)


def _ways(
    pod: Pod, services: Iterable[Service], policies: Iterable[NetworkPolicy]
) -> Iterator[tuple[int, str, str]]:
    """How one gets past the sidecar: reason and message, the worst with the least number."""
    if pod.own_port in OTHER_WAYS:
        return
    if pod.is_on_host:
        why = "a pod has its node's network, where no NetworkPolicy closes the server's own port"
        yield 0, "HostNetwork", f"{why}; take hostNetwork away"
        return
    holding = [
        each
        for each in policies
        if each.is_for_ingress and all(one.holds(pod.labels) for one in each.selector)
    ]
    for policy in holding:
        if ports := _beside(policy.admits, pod):
            why = f"NetworkPolicy `{policy.key.name}` admits port {ports[0]} beside the sidecar's"
            yield 1, "NetworkPolicyAdmitsMore", f"{why}; {_MEND}"
    if holding:
        return
    for service in services:
        chosen = service.selector and service.selector.items() <= pod.labels.items()
        if chosen and (ports := _beside(service.targets, pod)):
            why = f"Service `{service.key.name}` leads to port {ports[0]}, past the sidecar"
            yield 2, "ServiceBypasses", f"{why}; set its targetPort to 8091, and {_MEND}"
    why = "no NetworkPolicy is for its pods: who reaches one calls the server past its sidecar"
    yield 3, "NoNetworkPolicy", f"{why}; {_MEND}"


def _traits(pod: Pod) -> object:
    labels, ports = frozenset(pod.labels.items()), frozenset(pod.ports.items())
    return labels, ports, pod.is_on_host, pod.own_port


def _beside(ports: Iterable[Ports], pod: Pod) -> list[str]:
    """Those of them that are not the sidecar's."""
    found = []
    for each in ports:
        if each.name:
            number = pod.ports.get(each.name)
            if number is not None and number not in SIDECAR_PORTS:
                found.append(f"`{each.name}`")
        elif any(number not in SIDECAR_PORTS for number in range(each.first, each.last + 1)):
            is_one = each.first == each.last
            found.append(f"{each.first}" if is_one else f"{each.first} to {each.last}")
    return found
