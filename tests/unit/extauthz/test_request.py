"""From Envoy's CheckRequest to the domain's Request, and to what events keep of it."""

import pytest

from extauthz.core.request import Request
from extauthz.request import to_asked, to_request
from protos.gen.external_auth_pb2 import CheckRequest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def check(**http: object) -> CheckRequest:
    return CheckRequest(attributes={"request": {"http": http}})


def raw(*headers: tuple[str, bytes]) -> dict[str, object]:
    return {"headers": [{"key": key, "raw_value": value} for key, value in headers]}


def test_takes_method_path_body_and_peer_as_they_are() -> None:
    """Nothing is decoded, trimmed or folded."""
    message = check(method="POST", path="/mcp/%2e?a=b", raw_body=b"\xff{}")
    message.attributes.source.address.socket_address.address = "10.1.2.3"
    request = to_request(message)
    assert request == Request("POST", "/mcp/%2e?a=b", (), b"\xff{}", "10.1.2.3", "")


def test_headers_keep_order_repetition_and_bytes() -> None:
    """Names are lower-cased; values stay bytes, also those that are not UTF-8."""
    message = check(header_map=raw(("X-A", b"1"), ("b", b"\xff"), ("x-a", b"2")))
    assert to_request(message).headers == (("x-a", b"1"), ("b", b"\xff"), ("x-a", b"2"))


def test_pseudo_headers_are_left_out() -> None:
    """HTTP/2's :path and the like are no headers."""
    message = check(header_map=raw((":path", b"/"), ("a", b"1")), headers={":path": "/"})
    assert to_request(message).headers == (("a", b"1"),)
    assert to_request(check(headers={":path": "/", "A": "1"})).headers == (("a", b"1"),)


def test_raw_headers_win_even_when_empty() -> None:
    """The merged headers count only where Envoy sent no header_map at all."""
    assert to_request(check(headers={"a": "1"}, header_map={"headers": []})).headers == ()
    assert to_request(check(headers={"a": "1"})).headers == (("a", b"1"),)


def test_a_header_without_raw_value_counts_by_its_text() -> None:
    """A header_map whose values came as text is read as well."""
    message = check(header_map={"headers": [{"key": "a", "value": "ü"}]})
    assert to_request(message).headers == (("a", "ü".encode()),)


def test_a_body_sent_as_text_counts() -> None:
    """Envoy without pack_as_bytes sends `body`."""
    assert to_request(check(body="ü")).body == "ü".encode()


def test_request_id_is_the_header() -> None:
    """Access logs name a request by x-request-id; http.id is Envoy's own stream number."""
    assert to_request(check(id="15", header_map=raw(("x-request-id", b"u-1")))).id == "u-1"
    assert to_request(check(id="15")).id == "15"


def test_an_empty_message_is_an_empty_request() -> None:
    """What Envoy leaves out does not raise; the strict parse refuses it later."""
    assert to_request(CheckRequest()) == Request("", "")


@pytest.mark.parametrize("path", ["/mcp", "/mcp?token=secret", "/mcp#x", "/mcp?a#b?c"])
def test_events_keep_the_path_without_its_query(path: str) -> None:
    """A query may hold secrets."""
    asked = to_asked(Request("POST", path, id="u-1"))
    assert (asked.method, asked.path, asked.request_id) == ("POST", "/mcp", "u-1")


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7-00",
        f"01-{TRACE}-00f067aa0ba902b7-01-later",
    ],
)
def test_valid_traceparent_gives_the_trace_id(traceparent: str) -> None:
    """Also one of a later version, which may carry more."""
    request = Request("POST", "/", (("traceparent", traceparent.encode()),))
    assert to_asked(request).trace_id == TRACE


@pytest.mark.parametrize(
    "traceparents",
    [
        [],
        [""],
        [f"ff-{TRACE}-00f067aa0ba902b7-01"],
        [f"00-{TRACE}-00f067aa0ba902b7-01-more"],
        [f"00-{TRACE.upper()}-00f067aa0ba902b7-01"],
        [f"00-{'0' * 32}-00f067aa0ba902b7-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE}-00f067aa0ba902b7"],
        [f"00-{TRACE}-00f067aa0ba902b7-01\n"],
        ["\u00fc" + f"00-{TRACE}-00f067aa0ba902b7-01"],
        [f"00-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7-01"],
    ],
)
def test_invalid_traceparent_gives_none(traceparents: list[str]) -> None:
    """W3C Trace Context: anything else, or more than one, is as if absent."""
    headers = tuple(("traceparent", value.encode()) for value in traceparents)
    assert to_asked(Request("POST", "/", headers)).trace_id == ""
