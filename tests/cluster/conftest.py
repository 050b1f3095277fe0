"""One real API server for the whole folder, with the custom resources defined."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.kube_cluster import KubeCluster, governed_cluster
from tests.tools.kube_objects import Served
from tests.tools.operated_cluster import World, operated_cluster
from tests.tools.waiting import eventually


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeCluster]:
    """A cluster that knows the three kinds; tests keep to namespaces of their own."""
    with governed_cluster(tmp_path_factory.mktemp("kubernetes") / "cluster") as found:
        yield found


@pytest.fixture(scope="session")
def served(cluster: KubeCluster) -> Served:
    """The custom resources of that cluster, through its API."""
    return Served(cluster)


@pytest.fixture
def namespace(cluster: KubeCluster, request: pytest.FixtureRequest) -> str:
    """A new one, for this test alone."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-")
    done = cluster.kubectl("create", "namespace", name)
    assert done.returncode == 0, done.stderr
    return name


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Where a test writes what it applies."""
    return tmp_path / "manifest.yaml"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Another cluster, with components to be operated."""
    with operated_cluster(tmp_path_factory.mktemp("operated")) as found:
        yield found


@pytest.fixture
def mended(world: World) -> Iterator[None]:
    """What a test broke is whole again."""
    yield
    world.double.waiting.clear()
    world.double.unready.clear()
    eventually(world.serves, "all serve again")
