"""Reaches the controller: one channel, a stream at a time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from extauthz.sources.stream.failures import (
    Away,
    Ended,
    no_answer,
    no_message,
    of_status,
    printable,
    unreadable,
)
from extauthz.sources.stream.options import CA_FILE, StreamOptions
from extauthz.sources.stream.token import read_token
from protos.gen.policy_stream_pb2 import FollowRequest, PolicyUpdate, Subscription

_FOLLOW: Final = "/sentinel.policy.v1.PolicyStream/Follow"
_BALANCING: Final = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


class Stream:
    """One stream: messages in their order, and answers.

    Args:
        call: the call.
        options: whom it reaches.
        token: that it was opened with.
    """

    def __init__(self, call: Any, options: StreamOptions, token: str) -> None:
        self._call, self._options, self._token = call, options, token

    async def send(self, request: FollowRequest, seconds: float) -> None:
        """Send, within `seconds`.

        Raises:
            Away: it is not taken, or the stream broke.
            Ended: the controller ended it.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._call.write(request)
        except asyncio.InvalidStateError:  # it has ended: reading tells how
            await self.receive(seconds)
            raise Ended from None
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            raise self._away(error, seconds) from error
        except asyncio.CancelledError:
            _only_by_the_controller()
            raise Ended from None

    async def receive(self, seconds: float) -> PolicyUpdate:
        """The next message.

        Raises:
            Away: none came within `seconds`, or none of the protocol, or the stream broke.
            Ended: the controller ended it.
        """
        try:
            async with asyncio.timeout(seconds):
                raw = await self._call.read()
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            raise self._away(error, seconds) from error
        except asyncio.CancelledError:
            _only_by_the_controller()
            raise Ended from None
        if raw is grpc.aio.EOF:
            raise Ended
        try:
            return PolicyUpdate.FromString(raw)
        except DecodeError as error:
            raise Away(no_message(self._options)) from error

    async def controller(self) -> str:
        """The name that the controller gives itself; empty where it gives none."""
        for key, value in await self._call.initial_metadata():
            if key == "controller":
                return printable(str(value))
        return ""

    def _away(self, error: Exception, seconds: float) -> Away:
        if isinstance(error, grpc.aio.AioRpcError):
            return of_status(self._options, error.code(), error.details() or "", self._token)
        return Away(no_answer(self._options, seconds))


def _only_by_the_controller() -> None:
    """A call that its server cancels looks as if this task were."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise asyncio.CancelledError


class Link:
    """Opens streams to the controller; the channel stays as long as its authority does.

    Args:
        options: where it is, and how it is reached.
    """

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._channel: grpc.aio.Channel | None = None
        self._authority = b""

    @asynccontextmanager
    async def open(self, revision: str) -> AsyncIterator[Stream]:
        """A stream that asks for what came after `revision`.

        Raises:
            Away: token or authority cannot be read, or nobody takes the call.
            Ended: the controller ended it.
        """
        options = self._options
        token = await asyncio.to_thread(read_token, options)
        channel = await self._open_channel()
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        follow: Any = channel.stream_stream(_FOLLOW, FollowRequest.SerializeToString)
        call = follow(metadata=metadata)
        try:
            stream = Stream(call, options, token)
            asked = Subscription(
                namespace=options.namespace,
                name=options.server,
                gateway=options.gateway,
                revision=revision,
            )
            await stream.send(FollowRequest(subscription=asked), options.first_answer_seconds)
            yield stream
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        if channel:
            await channel.close()

    async def _open_channel(self) -> grpc.aio.Channel:
        """The channel; another one where the authority has changed."""
        authority = b""
        if not self._options.plaintext:
            authority = await asyncio.to_thread(_read_authority, self._options)
        if self._channel is None or authority != self._authority:
            await self.close()
            self._channel, self._authority = self._connect(authority), authority
        return self._channel

    def _connect(self, authority: bytes) -> grpc.aio.Channel:
        target, settings = f"dns:///{self._options.address}", _channel_settings(self._options)
        if self._options.plaintext:
            return grpc.aio.insecure_channel(target, settings)
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authority), settings)


def _channel_settings(options: StreamOptions) -> list[tuple[str, Any]]:
    return [
        # Every address that the name has: the next stream goes to the next of them.
        ("grpc.service_config", _BALANCING),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.dns_min_time_between_resolutions_ms", 1000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 3000),  # how long connecting may take
        ("grpc.max_reconnect_backoff_ms", int(options.retry_max_seconds * 1000)),
        # A connection whose other end is gone is seen within these two.
        ("grpc.keepalive_time_ms", int(options.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", int(options.keepalive_timeout_seconds * 1000)),
        # Without this one a ping that went out is waited for during a minute.
        ("grpc.http2.ping_timeout_ms", int(options.keepalive_timeout_seconds * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),  # nothing is left of a channel that was closed
    ]


def _read_authority(options: StreamOptions) -> bytes:
    assert options.ca_file
    try:
        pem = options.ca_file.read_bytes()
    except OSError as error:
        raise Away(unreadable(CA_FILE, options.ca_file, str(error.strerror))) from error
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise Away(unreadable(CA_FILE, options.ca_file, "it holds no PEM certificate"))
    return pem
