"""What Deployments and their pods say of a component. Pure: reads what the API server answered."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from backend.ports.cluster import DISPLAY, PARTS, ComponentState, Status, not_deployed
from backend.ports.workloads import Happening, Rollout

Raw = dict[str, Any]

METRICS: Final = "metrics"  # what a component's port for operators is called in its pods
ABSENT: Final = "install it: `kubectl apply -k k8s`"
_DAEMONS: Final = "DaemonSet"
_PULLS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName"})
_ENDS: Final = frozenset({"CrashLoopBackOff", "RunContainerError"})
_MOST_FAULTS: Final = 3


class Workload(NamedTuple):
    """What runs a component.

    Args:
        kind, name: as mcp-runtime calls them, too (its Service has the same name).
    """

    kind: str
    name: str

    @property
    def plural(self) -> str:
        return f"{self.kind.lower()}s"


# The sidecar runs in the MCP servers' own pods, so no workload of ours has it.
WORKLOADS: Final[Mapping[str, Workload]] = {
    **{
        key: Workload("Deployment", f"mcp-sentinel-{key}")
        for key in ("ingest", "processor", "api", "ui", "gateway", "controller")
    },
    "clickhouse": Workload("StatefulSet", "clickhouse"),
    "keeper": Workload("StatefulSet", "clickhouse-keeper"),
    "kafka": Workload("StatefulSet", "kafka"),
    "prometheus": Workload("Deployment", "prometheus"),
    "grafana": Workload("Deployment", "grafana"),
    "otel-collector": Workload("Deployment", "otel-collector"),
    "tempo": Workload("StatefulSet", "tempo"),
    "loki": Workload("StatefulSet", "loki"),
    "promtail": Workload(_DAEMONS, "promtail"),
}
PLURALS: Final = tuple(dict.fromkeys(each.plural for each in WORKLOADS.values()))


def states_of(found: Iterable[Raw], pods: Sequence[Raw]) -> Iterator[ComponentState]:
    """Each component that a workload runs, in the order of `PARTS`.

    Args:
        found: workloads of the namespace, each with its kind.
        pods: all of the namespace.
    """
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in found}
    for part in PARTS:
        place = WORKLOADS.get(part.key)
        if place is None:
            continue
        if workload := by_name.get(place):
            yield _state_of(part.key, workload, pods_of(workload, pods))
        elif part.is_always_told:
            yield not_deployed(part.key, ABSENT)


def pods_of(workload: Raw, pods: Iterable[Raw]) -> list[Raw]:
    """Those that its selector means and that are not being ended."""
    labels = selector_of(workload).items()
    return [
        each
        for each in pods
        if labels <= (each["metadata"].get("labels") or {}).items()
        and "deletionTimestamp" not in each["metadata"]
    ]


def selector_of(workload: Raw) -> Mapping[str, str]:
    """Labels of its pods."""
    found: Mapping[str, str] = workload["spec"]["selector"].get("matchLabels") or {}
    return found


def is_ready(pod: Raw) -> bool:
    """Whether it serves."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def rollout_of(workload: Raw, pods: Iterable[Raw]) -> Rollout:
    """How far the last change of a workload has come.

    Args:
        pods: the workload's own.
    """
    status, wanted = workload.get("status") or {}, _wanted(workload)
    ready, updated = _ready(workload), _updated(workload)
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    old = status.get("replicas", updated) - updated if workload["kind"] != _DAEMONS else 0
    if status.get("currentRevision") != status.get("updateRevision"):
        seen = False  # of a StatefulSet: the last pod is not counted yet
    is_done = bool(seen and updated >= wanted and ready >= wanted and old <= 0)
    told = f"{min(updated, wanted) if seen or old else 0} of {wanted} updated, {ready} ready"
    faults = [*_workload_faults(workload), *_pod_faults(pods)][:_MOST_FAULTS]
    is_stuck = any(each.get("reason") == "ProgressDeadlineExceeded" for each in _bad(workload))
    return Rollout(is_done, told, "" if is_done else "; ".join(faults), is_stuck)


def happening_of(event: Raw) -> Happening:
    """An Event, of which several libraries fill other fields."""
    about, series = event.get("involvedObject") or {}, event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return Happening(
        at=str(next(filter(None, times), event["metadata"].get("creationTimestamp") or "")),
        kind=str(event.get("type") or ""),
        reason=str(event.get("reason") or ""),
        about=f"{about.get('kind', '')}/{about.get('name', '')}",
        message=str(event.get("message") or ""),
        count=int(series.get("count") or event.get("count") or 1),
    )


def _state_of(key: str, workload: Raw, pods: Sequence[Raw]) -> ComponentState:
    rollout = rollout_of(workload, pods)
    ready, wanted = _ready(workload), _wanted(workload)
    if rollout.is_done and wanted:
        status, message = Status.READY, ""
    else:
        status = Status.DEGRADED if ready else Status.NOT_READY
        message = rollout.fault or (rollout.told if wanted else "scaled to 0 replicas")
    starts = [each["status"]["startTime"] for each in pods if each["status"].get("startTime")]
    return ComponentState(
        key=key,
        display=DISPLAY[key],
        status=status,
        namespace=workload["metadata"]["namespace"],
        kind=workload["kind"],
        resource=workload["metadata"]["name"],
        ready=f"{ready}/{wanted}",
        message=message,
        version=_version(workload),
        # Empty while pods are replaced: it has not started anew before they all have.
        started_at=min(starts, default="") if rollout.is_done else "",
        restarts=sum(each.get("restartCount", 0) for pod in pods for each in _containers(pod)),
        last_error=rollout.fault,
    )


def _wanted(workload: Raw) -> int:
    if workload["kind"] == _DAEMONS:
        return int((workload.get("status") or {}).get("desiredNumberScheduled", 0))
    return int(workload["spec"].get("replicas", 1))


def _ready(workload: Raw) -> int:
    status = workload.get("status") or {}
    name = "numberReady" if workload["kind"] == _DAEMONS else "readyReplicas"
    return int(status.get(name, 0))


def _updated(workload: Raw) -> int:
    status = workload.get("status") or {}
    name = "updatedNumberScheduled" if workload["kind"] == _DAEMONS else "updatedReplicas"
    return int(status.get(name, 0))


def _version(workload: Raw) -> str:
    """The tag of its first container's image, or the beginning of its digest."""
    image = str(workload["spec"]["template"]["spec"]["containers"][0].get("image") or "")
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return tag or digest[:19]


def _bad(workload: Raw) -> Iterator[Raw]:
    """Conditions that say why it does not go on."""
    for each in (workload.get("status") or {}).get("conditions") or ():
        if (each["type"], each["status"]) in {("ReplicaFailure", "True"), ("Progressing", "False")}:
            yield each


def _workload_faults(workload: Raw) -> Iterator[str]:
    for each in _bad(workload):
        yield f"{each.get('message') or each.get('reason')}"


def _containers(pod: Raw) -> Iterator[Raw]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _pod_faults(pods: Iterable[Raw]) -> Iterator[str]:
    """Each sentence once, with the mend."""
    yield from dict.fromkeys(fault for pod in pods for fault in _faults_of(pod))


def _faults_of(pod: Raw) -> Iterator[str]:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if (condition["type"], condition["status"]) == ("PodScheduled", "False"):
            yield f"fits on no node: {condition.get('message', '')}; make room, or ask for less"
    for each in _containers(pod):
        waiting = (each.get("state") or {}).get("waiting") or {}
        reason, name = waiting.get("reason", ""), each.get("name", "")
        if reason in _PULLS:
            mend = "push it, or set another under `images` of your overlay"
            yield f"image `{each.get('image', '')}` cannot be pulled ({reason}); {mend}"
        elif reason in _ENDS:
            yield f"{name} ends again and again{_ended(each)}; see `sentinel logs --previous`"
        elif reason not in {"", "ContainerCreating", "PodInitializing"}:
            yield f"{name} cannot be started ({reason}): {waiting.get('message', '')}"


def _ended(container: Raw) -> str:
    last = (container.get("lastState") or {}).get("terminated") or {}
    if last.get("reason") == "OOMKilled":
        return " (out of memory: raise its limit)"
    return f" (exit code {last['exitCode']})" if "exitCode" in last else ""
