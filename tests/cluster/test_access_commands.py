"""`sentinel access …` with a kubeconfig alone: as by an api, or in a directory."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from backend.cli.main import mcp_runtime
from extauthz.core.documents import read_documents
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.unit.backend.cli.conftest import run
from tests.unit.backend.cli.test_cli_entitlements import OBJECTS as SHOP
from tests.unit.backend.cli.test_cli_grants import (
    OBJECTS,
    done,
    refused,
    rows,
    test_a_file_with_a_fault_changes_nothing,
    test_a_list_as_yaml_can_be_applied,
    test_applying_leaves_what_is_out_of_force_so,
    test_bad_input_is_refused,
    test_columns_are_mcp_runtimes,
    test_create_replaces_nothing,
    test_create_takes_what_a_person_would_write,
    test_dry_runs_change_nothing,
    test_lists_are_filtered,
    test_names_are_taken_as_they_are_printed,
    test_sessions_are_created_revoked_and_given_back,
    test_unknown_names,
    test_warnings_do_not_stop,
    test_what_get_prints_can_be_applied_again,
)

# The same tests as of the other two places; these objects are kept at the API server.
__all__ = [
    "test_a_file_with_a_fault_changes_nothing",
    "test_a_list_as_yaml_can_be_applied",
    "test_applying_leaves_what_is_out_of_force_so",
    "test_bad_input_is_refused",
    "test_columns_are_mcp_runtimes",
    "test_create_replaces_nothing",
    "test_create_takes_what_a_person_would_write",
    "test_dry_runs_change_nothing",
    "test_lists_are_filtered",
    "test_names_are_taken_as_they_are_printed",
    "test_sessions_are_created_revoked_and_given_back",
    "test_unknown_names",
    "test_warnings_do_not_stop",
    "test_what_get_prints_can_be_applied_again",
]
NAMESPACES = ("mcp-servers", "other")
Access = Callable[..., Result]


@pytest.fixture(scope="module")
def emptied(cluster: KubeCluster, served: Served) -> None:
    """No objects of other tests, which keep to namespaces of their own."""
    for namespace in NAMESPACES:
        cluster.kubectl("create", "namespace", namespace)
    listed = cluster.kubectl("get", "mcp", "--all-namespaces", "--output", "json")
    for namespace in {each["metadata"]["namespace"] for each in json.loads(listed.stdout)["items"]}:
        served.clear(namespace)


@pytest.fixture
def keep(emptied: None, served: Served) -> Callable[[str], None]:
    """Has these objects, and no others, in the cluster."""

    def kept(text: str) -> None:
        for namespace in NAMESPACES:
            served.clear(namespace)
        for document in read_documents(text.encode()):
            served.create(document.value, document.value["metadata"]["namespace"])

    return kept


@pytest.fixture
def access(cluster: KubeCluster, keep: Callable[[str], None]) -> Access:
    """`sentinel access …` at the API server."""
    keep(OBJECTS)
    where = ("--kubeconfig", str(cluster.kubeconfig))
    return lambda *words, **more: run("access", *words, *where, **more)


def test_it_prints_what_a_directory_does(access: Access, tmp_path: Path) -> None:
    """In every form; a single object too. Ages are the objects' own."""
    (tmp_path / "objects.yaml").write_text(OBJECTS)
    for words in (["list", "--all-namespaces"], ["get", "ops"]):
        for form in ("table", "json", "yaml", "name"):
            asked = ["grant", *words, "-o", form]
            there, here = access(*asked), run("access", *asked, "--access", str(tmp_path))
            assert without_age(done(there)) == without_age(done(here))


def without_age(told: str) -> str:
    return re.sub(r'"age": "[^"]*"', '"age": ""', told)


def test_who_can_do_what_is_worked_out(
    access: Access, keep: Callable[[str], None], tmp_path: Path
) -> None:
    """From the objects alone, as from a directory; what no call used needs an api."""
    keep(SHOP)
    (tmp_path / "objects.yaml").write_text(SHOP)
    for words in (
        ["who-can", "refund", "--server", "mcp-servers/shop"],
        ["what-can", "--agent", "ops", "--human", "ada"],
        ["what-can", "--agent", "ops", "--server", "mcp-servers/shop"],
    ):
        there = done(access(*words))
        assert there == done(run("access", *words, "--access", str(tmp_path)))
        assert "mcp-servers/refunds" in there or "mcp-servers/reads" in there
    assert "name one of mcp-servers/shop" in refused(
        access("who-can", "refund", "--server", "mcp-servers/shp")
    )
    assert "which an api has; name one with --api" in refused(access("unused"))


def test_where_a_cluster_is_named(
    access: Access, cluster: KubeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By option, by KUBECONFIG where it is asked for or nothing else is named; one place alone."""
    listed, kubeconfig = ["access", "grant", "list"], str(cluster.kubeconfig)
    environ = {"KUBECONFIG": kubeconfig}
    for words in (["--use-kube"], ["--context", "tests"]):
        for command in (listed, ["access", "session", "list"]):
            assert "demo" in done(CliRunner(env=environ).invoke(mcp_runtime, [*command, *words]))
    monkeypatch.chdir(tmp_path)  # where no `sentinel up` runs
    fallen_back = run(*listed, KUBECONFIG=kubeconfig)
    assert "demo" in done(fallen_back)
    assert "using the cluster of KUBECONFIG" in fallen_back.stderr
    assert "--kubeconfig" in refused(run(*listed, KUBECONFIG=""), 3)
    named = run(*listed, "--access", str(tmp_path), KUBECONFIG=kubeconfig)
    assert rows(named)[1:] == []
    both = run(*listed, "--access", str(tmp_path), "--kubeconfig", kubeconfig)
    assert "--access goes without --kubeconfig" in refused(both, 2)
    wrong = run(*listed, "--kubeconfig", kubeconfig, "--context", "production")
    assert "finds no cluster" in refused(wrong)
    assert "name a context" in wrong.stderr


def test_what_is_missing_is_named(access: Access, cluster: KubeCluster, namespace: str) -> None:
    """The verb and the resource of a right."""
    kubeconfig = str(cluster.account(namespace, "reader"))
    words = ("access", "grant", "list", "--namespace", "other", "--kubeconfig", kubeconfig)
    told = refused(run(*words))
    assert 'cannot list resource "mcpaccessgrants" in API group "mcpruntime.org"' in told
    assert 'in the namespace "other"; grant it the role' in told


def test_a_person_may_be_bound_to_one_namespace(
    access: Access, cluster: KubeCluster, namespace: str
) -> None:
    """Who may write in a namespace alone can; what it writes is kept under the command's name."""
    kubeconfig = str(cluster.account(namespace, "person"))
    who = f"--serviceaccount={namespace}:person"
    words = ("--namespace", "mcp-servers")
    verbs = "--verb=get,list,create,patch,delete"
    cluster.kubectl("create", "role", namespace, verbs, "--resource=mcpg,mcps", *words)
    cluster.kubectl("create", "rolebinding", namespace, f"--role={namespace}", who, *words)
    done(run("access", "grant", "disable", "ops", "--kubeconfig", kubeconfig))
    told = cluster.kubectl(
        *("get", "mcpg", "ops", *words, "--show-managed-fields", "--output", "json")
    )
    managers = [each["manager"] for each in json.loads(told.stdout)["metadata"]["managedFields"]]
    assert "sentinel-cli" in managers
    assert "cannot list" in refused(
        run("access", "grant", "list", "--all-namespaces", "--kubeconfig", kubeconfig)
    )
