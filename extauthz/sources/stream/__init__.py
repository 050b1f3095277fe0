"""Policy source `stream`: the controller tells of each change as it happens."""

from extauthz.sources.stream.counts import Counts, StreamCollector
from extauthz.sources.stream.options import StreamOptions, check_stream, stream_address
from extauthz.sources.stream.source import StreamSource

__all__ = [
    "Counts",
    "StreamCollector",
    "StreamOptions",
    "StreamSource",
    "check_stream",
    "stream_address",
]
