"""Short ways to say what the generated classes say at length."""

from collections.abc import Iterable
from datetime import timedelta

import betterproto2
from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    MetadataFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    Pipe,
    RuntimeUInt32,
    SocketAddress,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from envoy_data_plane.google.protobuf import Any

# Where Envoy keeps what the decision point returned with its answer.
DECISION_NAMESPACE = "envoy.filters.http.ext_authz"
DECISION_KEY = "decision_id"

# A value that no decision id has: MetadataFilter then matches only where there is none.
_NEVER = "-"


def seconds(value: float) -> timedelta:
    """A protobuf duration."""
    return timedelta(seconds=value)


def extension(name: str, config: betterproto2.Message) -> TypedExtensionConfig:
    """A named extension with its typed configuration."""
    return TypedExtensionConfig(name=name, typed_config=Any.pack(config))


def socket_file(path: str, mode: int = 0) -> Address:
    """A Unix socket; `mode` is set where Envoy creates it."""
    return Address(pipe=Pipe(path=path, mode=mode))


def tcp(host: str, port: int) -> Address:
    """A host and port."""
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def undecided() -> AccessLogFilter:
    """Match the requests for which no decision came back."""
    return _by_decision(ValueMatcher(string_match=StringMatcher(exact=_NEVER)), missing=True)


def decided() -> AccessLogFilter:
    """Match the requests that carry a decision id: all that `undecided` does not."""
    return _by_decision(ValueMatcher(present_match=True), missing=False)


def status(code: int, op: ComparisonFilterOp = ComparisonFilterOp.EQ) -> AccessLogFilter:
    """Match an HTTP status, or one at least as high (`GE`)."""
    # Envoy insists on a runtime key; nobody sets runtime values here.
    value = RuntimeUInt32(default_value=code, runtime_key="sentinel.local_reply")
    comparison = ComparisonFilter(op=op, value=value)
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison))


def flagged(flags: Iterable[str]) -> AccessLogFilter:
    """Match any of Envoy's response flags."""
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=list(flags)))


def every(*filters: AccessLogFilter) -> AccessLogFilter:
    """Match what all of them match."""
    return AccessLogFilter(and_filter=AndFilter(filters=list(filters)))


def _by_decision(value: ValueMatcher, *, missing: bool) -> AccessLogFilter:
    matcher = MetadataMatcher(
        filter=DECISION_NAMESPACE,
        path=[MetadataMatcherPathSegment(key=DECISION_KEY)],
        value=value,
    )
    return AccessLogFilter(
        metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=missing)
    )
