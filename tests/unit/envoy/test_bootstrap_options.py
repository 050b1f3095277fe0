"""Options of the bootstraps: what is read, and what is refused with its mend."""

from typing import Any

import pytest
from envoy_bootstrap.options import GatewayOptions, SidecarOptions, Upstream, named

from extauthz.core.errors import Invalid
from extauthz.core.request import MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("url", "upstream"),
    [
        ("http://127.0.0.1:8090", Upstream("127.0.0.1", 8090)),
        ("http://server:8090/", Upstream("server", 8090)),
        ("http://server", Upstream("server", 80)),
        ("https://mcp.example.com", Upstream("mcp.example.com", 443, tls=True)),
        ("http://[::1]:8090", Upstream("::1", 8090)),
        ("unix:run/server.sock", Upstream(socket="run/server.sock")),
        ("unix:/run/server.sock", Upstream(socket="/run/server.sock")),
        ("unix:///run/server.sock", Upstream(socket="/run/server.sock")),
    ],
)
def test_upstreams_are_read(url: str, upstream: Upstream) -> None:
    """An upstream is a URL or a Unix socket, absolute or relative."""
    assert Upstream.parse(url) == upstream


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("", "write http://host:port"),
        ("127.0.0.1:8090", "write http://host:port"),
        ("ftp://server:21", "write http://host:port"),
        ("http://server:port", "write http://host:port"),
        ("http://server:0", "write http://host:port"),
        ("http://server:99999", "write http://host:port"),
        ("http://[::1", "write http://host:port"),
        ("http://a b:1", "write http://host:port"),
        ("http://server:8090/mcp", "leave it out"),
        ("http://server:8090?x=1", "leave it out"),
        ("unix:", "use 1 to 107 bytes"),
        ("unix:/" + "x" * 107, "use 1 to 107 bytes"),
    ],
)
def test_bad_upstreams_are_refused(url: str, mend: str) -> None:
    """A bad upstream is refused by name, with the mend."""
    with pytest.raises(Invalid) as error:
        Upstream.parse(url)
    assert error.value.field == "upstream"
    assert mend in str(error.value)


def test_credentials_are_not_repeated() -> None:
    """An address with a password is refused, and the password is not in the message."""
    with pytest.raises(Invalid) as error:
        Upstream.parse("http://user:hush@server:1")
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen_address", "localhost"),
        ("listen_address", ""),
        ("listen_port", -1),
        ("listen_port", 65536),
        ("trusted_hops", -1),
        ("max_connections", 0),
        ("max_heap_bytes", 1),
        ("request_seconds", 0.0),
        ("stream_idle_seconds", 0.0),
        ("stream_idle_seconds", float("nan")),
        ("admin_socket", ""),
        ("check_socket", "x" * 108),
        ("check_socket", "a\0b"),
        ("check_seconds", 0.0),
        ("max_request_bytes", 0),
        ("max_request_bytes", MAX_BODY_BYTES + 1),
        ("connect_seconds", 0.0),
        ("upstream_idle_seconds", 0.0),
        ("undecided_log", ""),
        ("host_rewrite", "a b"),
        ("host_rewrite", "::1"),
        ("host_rewrite", "host:port"),
    ],
)
def test_bad_values_are_refused(name: str, value: Any) -> None:
    """A value out of range is refused by the option's name, and the message says the mend."""
    with pytest.raises(Invalid) as error:
        SidecarOptions(**{name: value})
    assert error.value.field == name
    assert error.value.mend


@pytest.mark.parametrize("host", ["", "server", "server:8090", "127.0.0.1:8090", "[::1]:8090"])
def test_hosts_are_accepted(host: str) -> None:
    """A Host to rewrite to may have a port and be an address."""
    assert SidecarOptions(host_rewrite=host).host_rewrite == host


def test_gateway_speaks_plain_http_inside() -> None:
    """The gateway refuses a TLS service instead of speaking plain HTTP to it."""
    with pytest.raises(Invalid, match="ui: "):
        GatewayOptions(ui=Upstream("ui", 443, tls=True))


@pytest.mark.parametrize("options", [SidecarOptions, GatewayOptions])
def test_every_option_has_help(options: type[SidecarOptions] | type[GatewayOptions]) -> None:
    """Every option has a sentence of help."""
    assert all(text for _, text in named(options).values())
