"""The decision point's settings."""

from pathlib import Path

import pytest

from extauthz.core import config
from extauthz.core.errors import Invalid
from extauthz.settings import Settings

LEAST = {"MCP_SENTINEL_INGEST_URL": "http://127.0.0.1:8081/events", "POLICY_FILE": "/p.json"}


def load(**environ: str) -> Settings:
    return config.load(Settings, {**LEAST, **environ})


def test_defaults() -> None:
    """A policy and ingest's address are all that must be set."""
    settings = load()
    assert settings.policy_file == Path("/p.json")
    assert settings.check_address == "unix:/var/run/sentinel/check.sock"
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.1", 9103)
    assert config.changed(settings) == [f"{name}={value}" for name, value in LEAST.items()]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("ANALYTICS_INGEST_URL", "ingest_url"),
        ("MCP_ANALYTICS_INGEST_URL", "ingest_url"),
        ("ANALYTICS_API_KEY", "api_key"),
        ("ANALYTICS_SOURCE", "event_source"),
        ("ANALYTICS_EVENT_TYPE", "event_type"),
        ("MCP_SERVER_NAME", "server_name"),
        ("MCP_SERVER_NAMESPACE", "server_namespace"),
        ("MCP_CLUSTER_NAME", "cluster_name"),
    ],
)
def test_names_of_mcp_runtime(name: str, field: str) -> None:
    """The sidecar answers to the names that mcp-runtime's own takes."""
    environ = {"POLICY_FILE": "/p", "ANALYTICS_INGEST_URL": "http://x", name: "http://y"}
    assert getattr(config.load(Settings, environ), field) == "http://y"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"POLICY_FILE": ""}, "POLICY_FILE: is not set; set one of POLICY_FILE, ACCESS_DIR and"),
        ({"ACCESS_DIR": "/a"}, "POLICY_FILE: is set, and ACCESS_DIR too; set one of POLICY_FILE,"),
        ({"POLICY_STREAM": "c:1"}, "POLICY_FILE: is set, and POLICY_STREAM too; set one of"),
        ({"MCP_SENTINEL_INGEST_URL": ""}, "MCP_SENTINEL_INGEST_URL: is not set; set it: Where"),
        ({"CHECK_ADDRESS": "x"}, "CHECK_ADDRESS: `x` is not an address; write it like unix:/run"),
        ({"CHECK_ADDRESS": "localhost:1"}, "CHECK_ADDRESS: `localhost:1` is not an address; "),
        ({"CHECK_ADDRESS": "127.0.0.1:70000"}, "CHECK_ADDRESS: `127.0.0.1:70000` is not an addr"),
        ({"CHECK_ADDRESS": "unix:"}, "CHECK_ADDRESS: `unix:` names no socket file; write it like"),
        ({"CHECK_ADDRESS": "unix:/" + "x" * 107}, "CHECK_ADDRESS: `unix:/xxxx"),
        ({"CHECK_ADDRESS": "0.0.0.0:9"}, "CHECK_ADDRESS: `0.0.0.0:9` is not loopback; use a socke"),
        ({"CHECK_ADDRESS": "[::]:9"}, "CHECK_ADDRESS: `[::]:9` is not loopback; use a socket file"),
        ({"JWKS_MAX_AGE_SECONDS": "300"}, "JWKS_MAX_AGE_SECONDS: `300` is within JWKS_REFRESH_"),
        (
            {"MCP_SENTINEL_API_KEY": "k", "MCP_SENTINEL_INGEST_TOKEN_FILE": "/t"},
            "MCP_SENTINEL_INGEST_TOKEN_FILE: is set, and MCP_SENTINEL_API_KEY too; set one",
        ),
        ({"METRICS_PORT": "x"}, "METRICS_PORT: `x` is not a whole number; write one like 1"),
        ({"SPOOL_MAX_BYTES": "5"}, "SPOOL_MAX_BYTES: `5` is too small; set at least 1048576"),
        ({"LOG_LEVEL": "x"}, "LOG_LEVEL: `x` is not one of the choices; set one of debug, info"),
    ],
)
def test_wrong(environ: dict[str, str], message: str) -> None:
    """A wrong value stops the start with the name, the value and the mend."""
    with pytest.raises(Invalid) as caught:
        load(**environ)
    assert str(caught.value).startswith(message)


STREAM = {
    "POLICY_FILE": "",
    "POLICY_STREAM": "controller.mcp-sentinel.svc:8086",
    "POLICY_STREAM_TOKEN_FILE": "/token",
    "POLICY_STREAM_CA_FILE": "/ca.crt",
    "MCP_SERVER_NAME": "demo",
    "MCP_SERVER_NAMESPACE": "home",
}
PLAIN = {"POLICY_STREAM_CA_FILE": "", "POLICY_STREAM_ALLOW_LOOPBACK_PLAINTEXT": "true"}


def test_stream() -> None:
    """The stream is told where the controller is, who asks, and where the last policy is kept."""
    stream = load(**STREAM, GATEWAY_NAME="pod-1", SPOOL_DIR="/spool").stream
    assert (stream.address, stream.namespace, stream.server) == (
        "controller.mcp-sentinel.svc:8086",
        "home",
        "demo",
    )
    assert (stream.gateway, stream.store) == ("pod-1", Path("/spool/last-policy.db"))
    assert (stream.token_file, stream.ca_file) == (Path("/token"), Path("/ca.crt"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:65535", "localhost:80"])
def test_stream_without_tls(address: str) -> None:
    """A controller of this machine may be followed in plaintext, where that is said."""
    assert load(**{**STREAM, **PLAIN, "POLICY_STREAM": address}).stream.plaintext


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"POLICY_STREAM": "host"}, "POLICY_STREAM: `host` is not a host and a port; write it"),
        ({"POLICY_STREAM": "host:0"}, "POLICY_STREAM: `host:0` is not a host and a port"),
        ({"POLICY_STREAM": "host:65536"}, "POLICY_STREAM: `host:65536` is not a host and a port"),
        ({"POLICY_STREAM": "a b:80"}, "POLICY_STREAM: `a b:80` is not a host and a port"),
        ({"POLICY_STREAM": "::1:80"}, "POLICY_STREAM: `::1:80` is not a host and a port"),
        ({"POLICY_STREAM": "unix:/a:80"}, "POLICY_STREAM: `unix:/a:80` is not a host and a port"),
        ({"POLICY_STREAM": "https://h:1"}, "POLICY_STREAM: `https://h:1` is not a host and a port"),
        ({"MCP_SERVER_NAME": ""}, "MCP_SERVER_NAME: is not set, and POLICY_STREAM is; name the"),
        ({"MCP_SERVER_NAMESPACE": ""}, "MCP_SERVER_NAMESPACE: is not set, and POLICY_STREAM is"),
        ({"POLICY_STREAM_CA_FILE": ""}, "POLICY_STREAM_CA_FILE: is not set, and POLICY_STREAM is"),
        ({"POLICY_STREAM_TOKEN_FILE": ""}, "POLICY_STREAM_TOKEN_FILE: is not set, and POLICY_"),
        (PLAIN, "POLICY_STREAM: `controller.mcp-sentinel.svc:8086` is not loopback, and plaintext"),
        (
            {**PLAIN, "POLICY_STREAM": "127.0.0.1:1", "POLICY_STREAM_CA_FILE": "/ca"},
            "POLICY_STREAM_CA_FILE: is set, and POLICY_STREAM_ALLOW_LOOPBACK_PLAINTEXT too",
        ),
        (
            {"POLICY_STREAM_MAX_MESSAGE_BYTES": "2000000", "POLICY_STREAM_MAX_BYTES": "1500000"},
            "POLICY_STREAM_MAX_MESSAGE_BYTES: `2000000` is more than POLICY_STREAM_MAX_BYTES",
        ),
        ({"ACCESS_DIR": "/a"}, "ACCESS_DIR: is set, and POLICY_STREAM too; set one of POLICY_FILE"),
    ],
)
def test_wrong_stream(environ: dict[str, str], message: str) -> None:
    """A stream that cannot be followed safely stops the start."""
    with pytest.raises(Invalid) as caught:
        load(**{**STREAM, **environ})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "address", ["unix:run/check.sock", "unix:///run/check.sock", "127.0.0.1:0", "[::1]:9001"]
)
def test_addresses(address: str) -> None:
    """Socket files, also relative ones, and loopback are taken as they are."""
    assert load(CHECK_ADDRESS=address).check_address == address


def test_remote_address() -> None:
    """Another address must be allowed in so many words."""
    settings = load(CHECK_ADDRESS="0.0.0.0:9001", CHECK_ALLOW_REMOTE="true")
    assert settings.check_address == "0.0.0.0:9001"


def test_table() -> None:
    """Every field is a setting with help, and no two answer to one name."""
    rows = config.table(Settings)
    assert rows.keys() == {*Settings.__dataclass_fields__}
    names = [name for row in rows.values() for name in (*row.names, *row.file_names)]
    assert len(names) == len(set(names))
    for row in rows.values():
        assert row.help.endswith("."), row.name
