"""Why the controller cannot be followed, with the mend; no token stands in it."""

from pathlib import Path
from typing import Final

import grpc

from extauthz.core.errors import Retryable
from extauthz.core.manifests import Fault
from extauthz.sources.stream.options import (
    ADDRESS,
    CA_FILE,
    MAX_MESSAGE,
    TOKEN_FILE,
    StreamOptions,
)

_MOST_SHOWN: Final = 300  # characters of what the controller says
_UP: Final = f"is it up, and is {ADDRESS} right?"
_TLS: Final = ("CERTIFICATE_VERIFY_FAILED", "handshake failed", "Hostname Verification")
_STATUSES: Final = {  # what is wrong, and the mend
    "UNAUTHENTICATED": (
        "does not take the token",
        f"project one for audience mcp-sentinel-controller into {TOKEN_FILE}",
    ),
    "PERMISSION_DENIED": (
        "does not give out the policy of `{server}`",
        "run it in a pod of that server, or mend MCP_SERVER_NAME and MCP_SERVER_NAMESPACE",
    ),
    "NOT_FOUND": (
        "knows no MCPServer `{server}`",
        "create it, or mend MCP_SERVER_NAME and MCP_SERVER_NAMESPACE",
    ),
    "UNIMPLEMENTED": ("has no policy stream", f"set {ADDRESS} to the controller"),
    "RESOURCE_EXHAUSTED": (
        "sent a larger message than is taken, or takes no more streams",
        f"raise {MAX_MESSAGE}, or wait while it is busy",
    ),
    "TLS": (
        "is not the one that is trusted",
        f"set {CA_FILE} to who signs its certificate, and {ADDRESS} to a name in it",
    ),
    "UNAVAILABLE": ("cannot be reached", _UP),
}


class Away(Retryable):
    """The controller cannot be followed now.

    Args:
        fault: why, with the mend.
        kind: failures of one kind are told once, though their words differ.
    """

    def __init__(self, fault: Fault, kind: str = "") -> None:
        super().__init__(str(fault))
        self.fault, self.kind = fault, kind or fault.problem


class Ended(Exception):
    """The controller ended the stream, and nothing is wrong."""


def printable(text: str) -> str:
    """What a stranger says, in one short line."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:_MOST_SHOWN])


def fault(options: StreamOptions, problem: str, mend: str) -> Fault:
    """A fault of the stream."""
    return Fault(f"stream {options.address}", 0, "", problem, mend)


def no_answer(options: StreamOptions, seconds: float) -> Fault:
    """Nothing was heard for too long."""
    return fault(options, f"said nothing for {seconds:g} s", _UP)


def no_message(options: StreamOptions) -> Fault:
    """What came is not of the protocol."""
    mend = f"set {ADDRESS} to a controller of this version"
    return fault(options, "sent what is no policy update", mend)


def never_whole(options: StreamOptions) -> Fault:
    """An update began, and did not end."""
    problem = f"did not complete an update within {options.update_seconds:g} s"
    return fault(options, problem, "is the network fast enough for the policy?")


def ended(options: StreamOptions) -> Fault:
    """The controller ended the stream before it had said anything of use."""
    return fault(options, "ended the stream at once", "is there a controller that leads?")


def stumbled(options: StreamOptions) -> Fault:
    """A bug."""
    return fault(options, "met a fault of the decision point's own", "report what it logs")


def unreadable(setting: str, path: Path, why: str) -> Fault:
    """A file that the stream needs."""
    return Fault(f"{setting} {path}", 0, "", f"cannot be used ({why})", "name a readable file")


def of_status(options: StreamOptions, code: grpc.StatusCode, details: str, token: str) -> Away:
    """The controller, or gRPC on the way to it, says why not."""
    said = printable(details.replace(token, "(hidden)") if token else details)
    kind = code.name
    if code is grpc.StatusCode.UNAVAILABLE and any(sign in details for sign in _TLS):
        kind = "TLS"
    problem, mend = _STATUSES.get(kind, ("broke the stream", _UP))
    server = f"{options.namespace}/{options.server}"
    problem = f"{problem.format(server=server)} ({code.name}: {said})"
    return Away(fault(options, problem, mend), kind)
