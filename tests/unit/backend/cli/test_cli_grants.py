"""`access grant|session …`: the same against an api and against a directory."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from backend.cli.main import mcp_runtime
from extauthz.core.resources import parse_object
from tests.unit.backend.cli.conftest import Governed, run

OBJECTS = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: demo, namespace: mcp-servers}
spec:
  policy: {allowedNamespaces: [other]}
  tools: [{name: read}, {name: wipe, requiredTrust: high}, {name: x}]
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: mcp-servers}
spec:
  serverRef: {name: demo}
  subject: {agentID: bot, teamID: t}
  maxTrust: high
  allowedSideEffects: [read]
  expiresAt: 2030-01-01T00:00:00Z
  toolRules: [{name: read}, {name: wipe, decision: deny}, {name: x, requiredTrust: high}]
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: closed, namespace: other}
spec:
  serverRef: {name: demo, namespace: mcp-servers}
  subject: {humanID: h}
  disabled: true
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: s, namespace: mcp-servers}
spec: {serverRef: {name: demo}, subject: {agentID: bot}, consentedTrust: medium, revoked: true}
"""
Access = Callable[..., Result]


@pytest.fixture(params=["api", "directory"])
def access(request: pytest.FixtureRequest, governed: Governed) -> Access:
    """`sentinel access …` on these objects, kept in either place."""
    for file in governed.access.iterdir():
        file.unlink()
    (governed.access / "objects.yaml").write_text(OBJECTS)
    where = governed.by_api if request.param == "api" else governed.by_directory
    return lambda *words, **more: run("access", *words, *where, **more)


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, code: int = 1) -> str:
    assert result.exit_code == code, result.output
    return result.stderr


def rows(result: Result) -> list[list[str]]:
    return [line.split() for line in done(result).splitlines()]


def test_columns_are_mcp_runtimes(access: Access) -> None:
    """The list has upstream's columns; one namespace unless told otherwise."""
    assert rows(access("grant", "list")) == [
        ["NAME", "NAMESPACE", "SERVER", "DISABLED"],
        ["ops", "mcp-servers", "demo", "false"],
    ]
    assert rows(access("grant", "list", "--all-namespaces"))[1:] == [
        ["ops", "mcp-servers", "demo", "false"],
        ["closed", "other", "demo", "true"],
    ]
    assert rows(access("session", "list")) == [
        ["NAME", "NAMESPACE", "SERVER", "REVOKED"],
        ["s", "mcp-servers", "demo", "true"],
    ]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--agent", "bot"), ["ops"]),
        (("--human", "h"), ["closed"]),
        (("--server", "demo"), ["ops", "closed"]),
        (("--server", "nothing"), []),
    ],
)
def test_lists_are_filtered(access: Access, words: tuple[str, ...], names: list[str]) -> None:
    """By server, human and agent."""
    listed = access("grant", "list", "--all-namespaces", *words)
    assert [row[0] for row in rows(listed)[1:]] == names


def test_both_places_print_the_same(governed: Governed) -> None:
    """Whatever form is asked for, of lists and of single objects."""
    (governed.access / "objects.yaml").write_text(OBJECTS)
    for words in (["list", "--all-namespaces"], ["get", "ops"]):
        for form in ("table", "json", "yaml", "name"):
            asked = ["access", "grant", *words, "-o", form]
            by_api, by_directory = (
                run(*asked, *governed.by_api),
                run(*asked, *governed.by_directory),
            )
            assert done(by_api) == done(by_directory)
            assert done(by_api)


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize(("kind", "name"), [("grant", "ops"), ("session", "s")])
def test_what_get_prints_can_be_applied_again(
    access: Access, kind: str, name: str, form: str
) -> None:
    """Nothing of the object is lost, rules included."""
    printed = done(access(kind, "get", name, "-o", form))
    done(access(kind, "delete", name))
    done(access(kind, "apply", "--file", "-", input=printed))
    again = done(access(kind, "get", name, "-o", form))
    if form == "json":
        assert json.loads(again) | {"age": ""} == json.loads(printed) | {"age": ""}
    else:
        first, second = (parse_object(strip(yaml.safe_load(text))) for text in (printed, again))
        assert first == second


def strip(written: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    written["metadata"].pop("creationTimestamp", None)
    return written


def test_a_list_as_yaml_can_be_applied(access: Access) -> None:
    """Several documents in one stream."""
    printed = done(access("grant", "list", "--all-namespaces", "-o", "yaml"))
    assert len(list(yaml.safe_load_all(printed))) == 2
    applied = done(access("grant", "apply", "-f", "-", input=printed)).splitlines()
    assert applied == ["grant mcp-servers/ops applied", "grant other/closed applied"]


def test_names_are_taken_as_they_are_printed(access: Access) -> None:
    """`-o name` is as kubectl writes it, and serves as NAME."""
    name = done(access("grant", "list", "-o", "name")).strip()
    assert name == "mcpaccessgrant.mcpruntime.org/ops"
    assert done(access("grant", "disable", name)) == "grant mcp-servers/ops disabled\n"
    assert rows(access("grant", "list"))[1][3] == "true"


CREATE = ["create", "new", "--server", "mcp-servers/demo", "--agent", "bot"]


def test_create_takes_what_a_person_would_write(access: Access) -> None:
    """Rules as lines, an end as a duration; the namespace is the server's."""
    words = ["--human", "ada", "--max-trust", "high", "--rule", "read:allow", "--rule", "x:deny"]
    told = access("grant", *CREATE, *words, "--expires", "8h", "--policy-version", "v7")
    assert done(told) == "grant mcp-servers/new created\n"
    made = json.loads(done(access("grant", "get", "new")))
    assert made["subject"] == {"humanID": "ada", "agentID": "bot"}
    assert made["toolRules"] == [
        {"name": "read", "decision": "allow"},
        {"name": "x", "decision": "deny"},
    ]
    assert (made["maxTrust"], made["policyVersion"]) == ("high", "v7")
    assert made["expiresAt"].endswith("Z")


def test_create_replaces_nothing(access: Access) -> None:
    """A second one of the name is a conflict; the first stays as it was."""
    done(access("grant", *CREATE, "--max-trust", "medium"))
    assert "already" in refused(access("grant", *CREATE))
    assert json.loads(done(access("grant", "get", "new")))["maxTrust"] == "medium"


def test_sessions_are_created_revoked_and_given_back(access: Access) -> None:
    """And deleted; then they are not there."""
    done(access("session", *CREATE, "--trust", "high"))
    for verb, past in (("revoke", "revoked"), ("unrevoke", "unrevoked")):
        assert done(access("session", verb, "new")) == f"session mcp-servers/new {past}\n"
        shown = json.loads(done(access("session", "get", "new")))
        assert shown["revoked"] is (verb == "revoke")
    assert shown["consentedTrust"] == "high"
    assert done(access("session", "delete", "new")) == "session mcp-servers/new deleted\n"
    assert "mcp-servers/new" in refused(access("session", "get", "new"))


def test_applying_leaves_what_is_out_of_force_so(access: Access) -> None:
    """A file that says nothing of it does not give a revoked session back."""
    text = OBJECTS.rpartition("---")[2].replace(", revoked: true", "").replace("medium", "high")
    done(access("session", "apply", "--file", "-", input=text))
    applied = json.loads(done(access("session", "get", "s")))
    assert (applied["revoked"], applied["consentedTrust"]) == (True, "high")
    explicit = text.replace("high}", "high, revoked: false}")
    done(access("session", "apply", "--file", "-", input=explicit))
    assert json.loads(done(access("session", "get", "s")))["revoked"] is False


def test_a_file_with_a_fault_changes_nothing(access: Access, tmp_path: Path) -> None:
    """Each fault is told with its line; what is right in the file is not applied either."""
    file = tmp_path / "bad.yaml"
    good = OBJECTS.split("---")[1].replace("name: ops", "name: fine")
    bad = good.replace("name: fine", "name: bad").replace("decision: deny", "decision: dny")
    file.write_text(f"{good}---{bad}")
    told = refused(access("grant", "apply", "--file", str(file)))
    assert f"{file}:22: spec.toolRules[1].decision: unknown value `dny`" in told
    assert "nothing was applied" in told
    assert "fine" not in done(access("grant", "list"))


def test_other_kinds_have_their_own_command(access: Access) -> None:
    """A session is not applied as a grant."""
    text = OBJECTS.rpartition("---")[2]
    assert "access session apply" in refused(access("grant", "apply", "-f", "-", input=text))


def test_warnings_do_not_stop(access: Access) -> None:
    """They go to standard error: what is written is likely not what is meant."""
    result = access("grant", *CREATE, "--rule", "raed:allow")
    assert done(result) == "grant mcp-servers/new created\n"
    assert "did you mean `read`?" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["new", "--server", "mcp-servers/dmeo", "--agent", "a"], 1, "did you mean"),
        (["new", "--server", "demo", "--agent", "a"], 2, "`demo` is not NAMESPACE/NAME"),
        (["new", "--server", "mcp-servers/demo"], 2, "--human, --agent or --team: names nobody"),
        (["No_", "--server", "mcp-servers/demo", "--agent", "a"], 2, "NAME: `No_` is not a"),
        ([*CREATE[1:], "--rule", "a:allow", "--rule", "b:alow"], 2, "line 2: unknown decision"),
        ([*CREATE[1:], "--expires", "soon"], 2, "--expires: `soon` is no time"),
        ([*CREATE[1:], "--expires", "2020-01-01T00:00:00Z"], 2, "is over"),
        ([*CREATE[1:], "--namespace", "strange"], 1, "strange"),
    ],
)
def test_bad_input_is_refused(access: Access, words: list[str], code: int, said: str) -> None:
    """In one sentence that names the option and the mend."""
    assert said in refused(access("grant", "create", *words), code)
    assert "new" not in done(access("grant", "list"))


@pytest.mark.parametrize("verb", ["get", "delete", "disable", "enable"])
def test_unknown_names(access: Access, verb: str) -> None:
    """What is not there fails, and says so."""
    assert "`mcp-servers/nobody`" in refused(access("grant", verb, "nobody"))


def test_dry_runs_change_nothing(access: Access) -> None:
    """They print what would be; the api adds what calls would notice."""
    would = {
        ("disable", "ops"): "would be disabled",
        ("delete", "ops"): "would be deleted",
        ("create", "new", *CREATE[2:]): "would be created",
    }
    for words, said in would.items():
        told = done(access("grant", *words, "--dry-run"))
        assert said in told.splitlines()[0]
        assert "0 of 0 calls" in told or "the api alone knows" in told
    assert rows(access("grant", "list"))[1:] == [["ops", "mcp-servers", "demo", "false"]]


def test_what_cannot_be_read_is_told(governed: Governed) -> None:
    """A broken file of the directory is a warning with its place; the rest is listed."""
    (governed.access / "objects.yaml").write_text(OBJECTS)
    broken = governed.access / "bad.yaml"
    broken.write_text("kind: [")
    result = run("access", "grant", "list", *governed.by_directory)
    broken.unlink()
    assert "bad.yaml" in result.stderr
    assert "ops" in result.stdout


def test_where_objects_are_may_stand_in_the_environment(governed: Governed) -> None:
    """In our names and in mcp-runtime's, under both names of the program."""
    (governed.access / "objects.yaml").write_text(OBJECTS)
    words = ["access", "grant", "list"]
    theirs = {"MCP_PLATFORM_API_URL": governed.url, "MCP_PLATFORM_API_TOKEN": "admin"}
    ours = {"SENTINEL_API_URL": governed.url, "SENTINEL_API_KEY": "admin"}
    for environ in (theirs, ours, {"SENTINEL_ACCESS": str(governed.access)}):
        assert "ops" in done(run(*words, **environ))
        assert "ops" in done(CliRunner(env=environ).invoke(mcp_runtime, words))
    both = run(*words, SENTINEL_ACCESS=str(governed.access), **ours)
    assert "unset one" in refused(both, 2)
    assert "ops" in done(run(*words, *governed.by_directory, **ours))
    twice = run(*words, *governed.by_directory, *governed.by_api)
    assert "--access goes without" in refused(twice, 2)


def test_nothing_runs(tmp_path: Path) -> None:
    """Without a place, and without a run to take it from, the ways to name one are told."""
    told = refused(run("access", "grant", "list", "--state", str(tmp_path)), 3)
    assert all(way in told for way in ("--state", "--api", "--access"))
