"""Parts of a decision in JSON, which several answers have."""

import msgspec


class Ref(msgspec.Struct, frozen=True):
    """A namespaced object."""

    namespace: str
    name: str


class Levels(msgspec.Struct, frozen=True):
    """Trust levels that were compared; empty where that was not reached."""

    required: str
    admin: str
    consented: str
    effective: str


class WouldBe(msgspec.Struct, frozen=True):
    """What observe mode would have decided."""

    effect: str
    reason: str


class AskedServer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The governed MCP server."""

    namespace: str
    name: str
    cluster: str = ""
