"""`sentinel policy check` and `render`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from backend.cli.main import sentinel

SERVER = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: demo, namespace: ns}
spec:
  tools:
    - {name: read, sideEffect: read}
    - {name: wipe, sideEffect: destructive, requiredTrust: high}
"""
GRANT = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: g, namespace: ns}
spec:
  serverRef: {name: demo}
  subject: {agentID: bot}
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(sentinel, ["policy", *words])


def check(folder: Path, *documents: str) -> Result:
    for number, text in enumerate(documents):
        (folder / f"{number}.yaml").write_text(text)
    return run("check", str(folder))


def grant(*lines: str) -> str:
    return GRANT + "".join(f"  {line}\n" for line in lines)


def test_a_good_folder_passes(tmp_path: Path) -> None:
    """Counts at the end, exit code 0."""
    result = check(tmp_path, SERVER, GRANT)
    assert result.exit_code == 0
    assert result.stdout == "0 errors, 0 warnings in 2 files, 1 server, 1 grant, 0 sessions\n"


def test_an_error_reads_like_a_compiler_s(tmp_path: Path) -> None:
    """file:line: field: what; mend."""
    result = check(tmp_path, SERVER, grant("maxTrust: hihg"))
    assert result.exit_code == 1
    first, last = result.stdout.splitlines()
    assert first == f"{tmp_path}/1.yaml:8: spec.maxTrust: unknown value `hihg`; " + (
        "use low, medium or high"
    )
    assert last.startswith("1 error, 0 warnings")


def test_all_errors_are_told(tmp_path: Path) -> None:
    """One broken file does not hide another."""
    result = check(tmp_path, SERVER + "  x: [", grant("disabled: maybe"), "kind: [")
    assert result.stdout.splitlines()[-1].startswith("3 errors")


def test_two_objects_of_one_name_are_an_error(tmp_path: Path) -> None:
    """The second says where the first is."""
    result = check(tmp_path, SERVER, GRANT, GRANT)
    assert result.exit_code == 1
    assert f"{tmp_path}/2.yaml:4: metadata.name: second MCPAccessGrant `ns/g`" in result.stdout
    assert f"{tmp_path}/1.yaml:2" in result.stdout


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (grant("toolRules: [{name: wipe, decision: deny}]"), 8, "it allows nothing"),
        (grant("toolRules: [{name: wipe}]", "maxTrust: low"), 8, "never allows `wipe`: it needs"),
        (
            grant("toolRules: [{name: wipe}]", "maxTrust: high", "allowedSideEffects: [read]"),
            8,
            "allowedSideEffects leaves out",
        ),
        (grant("toolRules: [{name: raed}]"), 8, "did you mean `read`?"),
        (grant("expiresAt: '2001-01-01T00:00:00Z'"), 8, "expired at 2001"),
        (grant("maxTrust: high"), 5, "destructive tools too, such as `wipe`"),
        (GRANT.replace("name: demo", "name: dmeo"), 6, "did you mean `ns/demo`?"),
        (
            GRANT.replace("namespace: ns", "namespace: far").replace(
                "{name: demo}", "{name: demo, namespace: ns}"
            ),
            6,
            "policy.allowedNamespaces",
        ),
    ],
)
def test_what_has_no_effect_or_too_much_is_a_warning(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    """Warnings name the place and the mend; they fail nothing."""
    result = check(tmp_path, SERVER, text)
    assert result.exit_code == 0
    first, last = result.stdout.splitlines()
    assert first.startswith(f"{tmp_path}/1.yaml:{line}: warning: spec")
    assert said in first
    assert last.startswith("0 errors, 1 warning ")


def test_an_allowed_namespace_is_no_warning(tmp_path: Path) -> None:
    """The server's policy opens it."""
    far = GRANT.replace("namespace: ns", "namespace: far")
    far = far.replace("{name: demo}", "{name: demo, namespace: ns}")
    result = check(tmp_path, SERVER + "  policy: {allowedNamespaces: [far]}\n", far)
    assert result.stdout.startswith("0 errors, 0 warnings")


def test_a_single_file_may_belong_to_a_server_elsewhere(tmp_path: Path) -> None:
    """A grant alone is not told that its server is missing."""
    file = tmp_path / "grant.yaml"
    file.write_text(GRANT)
    assert run("check", str(file)).stdout.startswith("0 errors, 0 warnings")


def test_objects_that_make_no_document_are_an_error(tmp_path: Path) -> None:
    """What the decision point would refuse is refused here."""
    result = check(tmp_path, SERVER + "  policy: {maxStaleness: 1h}\n  auth: {mode: mtls}\n")
    assert result.exit_code == 1
    assert "mtls" in result.stdout


def test_a_path_without_custom_resources_is_a_warning(tmp_path: Path) -> None:
    """A wrong path does not pass for a checked one."""
    first, last = run("check", str(tmp_path)).stdout.splitlines()
    assert first == f"{tmp_path}: warning: holds no custom resource; name another path"
    assert last.startswith("0 errors, 1 warning in 0 files")


def test_json_holds_the_same(tmp_path: Path) -> None:
    """For programs."""
    (tmp_path / "a.yaml").write_text(SERVER + "---" + grant("maxTrust: hihg"))
    result = run("check", str(tmp_path), "--json")
    (error,) = json.loads(result.stdout)["errors"]
    assert (error["field"], error["line"]) == ("spec.maxTrust", 16)
    assert result.exit_code == 1


def test_a_rendered_document_checks_and_decides(tmp_path: Path) -> None:
    """`render` prints what the sidecar runs; `check` takes it."""
    check(tmp_path, SERVER, GRANT)
    rendered = run("render", str(tmp_path))
    assert rendered.exit_code == 0
    document = json.loads(rendered.stdout)
    assert document["grants"][0]["agent_id"] == "bot"
    file = tmp_path / "policy.json"
    file.write_text(rendered.stdout)
    assert run("check", str(file)).exit_code == 0
    del document["content_digest"], document["revision"]
    document["tools"][0]["required_trust"] = "lwo"
    file.write_text(json.dumps(document))
    broken = run("check", str(file))
    assert broken.exit_code == 1
    assert f"{file}: $.tools[0].required_trust: unknown value `lwo`" in broken.stdout


def test_render_refuses_a_broken_folder(tmp_path: Path) -> None:
    """Half a policy is none."""
    check(tmp_path, SERVER, grant("maxTrust: hihg"))
    result = run("render", str(tmp_path))
    assert result.exit_code == 1
    assert "1.yaml:8: spec.maxTrust" in result.stderr


def test_render_names_the_servers_there_are(tmp_path: Path) -> None:
    """One of several must be chosen, and an unknown one is told."""
    check(tmp_path, SERVER, SERVER.replace("name: demo", "name: two"))
    assert "ns/demo, ns/two" in run("render", str(tmp_path)).stderr
    assert "ns/demo, ns/two" in run("render", str(tmp_path), "--server", "ns/no").stderr
    chosen = run("render", str(tmp_path), "--server", "ns/two")
    assert json.loads(chosen.stdout)["server"]["name"] == "two"
