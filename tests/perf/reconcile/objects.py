"""A hundred thousand objects in a minute: copies of a server and a grant with their statuses.

They are put into etcd directly, as the API server stores custom resources: one after the other
through the API they would take an hour.
"""

import base64
import json
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from tests.perf.revoke.world import NAMESPACE
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import GROUP, PLURALS

_BATCH: Final = 100  # operations of a transaction: etcd takes 128


class Etcd:
    """Args: cluster: whose store it is."""

    def __init__(self, cluster: KubeCluster) -> None:
        self._url = cluster.etcd

    def read(self, kind: str, name: str) -> Any:
        """An object as it is stored."""
        found = self._ask("range", {"key": _encoded(_path(kind, name))})
        return json.loads(base64.b64decode(found["kvs"][0]["value"]))

    def write(self, values: Iterable[Any]) -> None:
        """Put objects."""
        left = iter(values)
        while batch := list(islice(left, _BATCH)):
            puts = [
                {"requestPut": {"key": _encoded(_of(each)), "value": _encoded(json.dumps(each))}}
                for each in batch
            ]
            self._ask("txn", {"success": puts})

    def _ask(self, verb: str, body: Any) -> Any:
        request = urllib.request.Request(f"{self._url}/v3/kv/{verb}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def copies(server: Any, grant: Any, name: str, numbers: range) -> Iterator[Any]:
    """A server, and grants for the agents of these numbers.

    Args:
        server, grant: as they are stored.
    """
    yield _copy(server, name)
    for number in numbers:
        agent = f"agent-{number:04}"
        made = _copy(grant, f"{name}-{agent}")
        made["spec"] |= {
            "serverRef": {"name": name, "namespace": NAMESPACE},
            "subject": {"agentID": agent},
        }
        yield made


def _copy(value: Any, name: str) -> Any:
    made = json.loads(json.dumps(value))
    made["metadata"] |= {"name": name, "uid": str(uuid.uuid5(uuid.NAMESPACE_URL, name))}
    return made


def _of(value: Any) -> str:
    return _path(value["kind"], value["metadata"]["name"])


def _path(kind: str, name: str) -> str:
    return f"/registry/{GROUP}/{PLURALS[kind]}/{NAMESPACE}/{name}"


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
