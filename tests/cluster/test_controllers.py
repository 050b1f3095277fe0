"""The cluster of the tests has Kubernetes' own controllers where a test wants them."""

import json
from pathlib import Path

from tests.tools.kube_cluster import governed_cluster
from tests.tools.waiting import eventually
from tests.unit.extauthz.core.objects import grant, server


def test_what_is_owned_goes_with_its_owner(tmp_path: Path) -> None:
    """A grant that names its server as owner is collected with it, and a namespace ends."""
    with governed_cluster(tmp_path / "cluster") as cluster:
        cluster.start_controllers()
        cluster.kubectl("create", "namespace", "ns")
        owner = server()
        done = cluster.kubectl("create", "--filename", "-", "--output=json", text=json.dumps(owner))
        stored = json.loads(done.stdout)
        owned = grant(serverRef={"name": "srv"})
        owned["metadata"]["ownerReferences"] = [
            {name: stored[name] for name in ("apiVersion", "kind")}
            | {name: stored["metadata"][name] for name in ("name", "uid")}
        ]
        done = cluster.kubectl("create", "--filename", "-", text=json.dumps(owned))
        assert done.returncode == 0, done.stderr
        cluster.kubectl("delete", "mcps", "srv", "--namespace", "ns")
        words = ("get", "mcpg", "--namespace", "ns", "--output", "name")
        eventually(lambda: not cluster.kubectl(*words).stdout, "the grant is collected")
        assert cluster.kubectl("delete", "namespace", "ns", "--timeout=90s").returncode == 0
