"""What the controller asks of a cluster's API server: what stands there, and what it writes."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from backend.ports.network import NetworkObject, Pod
from extauthz.core.errors import Retryable
from extauthz.core.governance import Key
from extauthz.core.model import Resource

POLICY_MAP: Final = "{}-gateway-policy"  # the ConfigMap of a server's policy
POLICY_MEMBER: Final = "policy.json"


class Expired(Retryable):
    """What is asked for was forgotten meanwhile: list anew."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of an object's status.

    Args:
        status: `True`, `False` or `Unknown`.
        generation: of the spec that it speaks of.
        since: RFC 3339; when `status` last changed; empty: now.
    """

    type: str
    status: str
    reason: str
    message: str
    generation: int
    since: str = ""


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """Of a server. Args: revision: content digest; connected, enforcing: sidecars."""

    revision: str = ""
    connected: int = 0
    enforcing: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """A custom resource as the API server has it.

    Args:
        generation: counts the changes of its spec.
        resource: None where it cannot be read; `fault` says why then.
        conditions, policy: what its status says, by whomever.
        writer: field manager of the last write of its spec; empty where nobody knows.
        accounts: service accounts whose pods may follow it, beside the pods labelled for it.
    """

    key: Key
    uid: str
    generation: int
    resource: Resource | None
    fault: str = ""
    conditions: tuple[Condition, ...] = ()
    policy: PolicyStatus | None = None
    writer: str = ""
    accounts: frozenset[str] = frozenset()


Followed = TypeVar("Followed", bound=Standing | NetworkObject)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Followed]):
    """All objects of a kind, as they stood at `version`."""

    items: Sequence[Followed]
    version: str


@dataclass(frozen=True, slots=True)
class Observed(Generic[Followed]):
    """Something that happened after a version.

    Args:
        version: what to ask from on next time.
        key: None where nothing happened but time.
        standing: the object; None where it is gone.
    """

    version: str
    key: Key | None = None
    standing: Followed | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a service account's token speaks for. Args: pod, pod_uid: empty where it has none."""

    namespace: str
    account: str
    pod: str = ""
    pod_uid: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads.

    Args:
        holder: empty where nobody does.
        seconds: how long it holds without being renewed.
        acquired_at: since when, RFC 3339; empty: now.
        renewed_at: as its holder wrote it, RFC 3339; only whether it changes counts. Each write
            renews it.
        transitions: how often it went from one to another.
        version: that an update must still find; empty where there is none yet.
    """

    holder: str
    seconds: int
    acquired_at: str
    renewed_at: str
    transitions: int
    version: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """An Event on an object. Args: kind: `Normal` or `Warning`."""

    about: Key
    uid: str
    kind: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ConfigMap:
    """A ConfigMap. Args: owner: uid of the MCPServer that owns it; empty where none does."""

    owner: str
    is_ours: bool
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret. Args: version: that an update must still find; empty where there is none yet."""

    data: Mapping[str, bytes]
    version: str = ""


class Source(Protocol[Followed]):
    """Objects of some kinds. Raises, everywhere: Retryable."""

    async def listed(self, kind: str) -> Listing[Followed]:
        """All of a kind, in every namespace."""

    def changes(self, kind: str, since: str) -> AsyncGenerator[Observed[Followed], None]:
        """What happens after a version; ends after some minutes. Raises: Expired."""


class ControlPlane(Source[Standing], Protocol):
    """The API server. Raises, everywhere: Retryable where it does not answer, or refuses.

    What it lists and follows itself are the custom resources.

    Attributes:
        network: Services and NetworkPolicies.
    """

    @property
    def network(self) -> Source[NetworkObject]: ...

    async def write_status(
        self, standing: Standing, conditions: Sequence[Condition], policy: PolicyStatus | None
    ) -> None:
        """Make ours of its conditions just these. Raises: NotFound: it is gone."""

    async def review(self, token: str, audience: str) -> Caller | None:
        """Whom a token speaks for; None where it does not count."""

    async def pod(self, caller: Caller) -> Pod | None:
        """The pod that a token is bound to; None where that pod is not there."""

    async def lease(self) -> Lease | None:
        """Who leads; None where nobody ever did."""

    async def write_lease(self, lease: Lease) -> Lease:
        """Create or update it. Raises: Conflict: somebody else did."""

    def lease_changes(self) -> AsyncGenerator[Lease, None]:
        """The lease, and each change of it; ends after some minutes."""

    async def note(self, note: Note) -> None:
        """Write an Event."""

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None: ...

    async def write_config_map(
        self, namespace: str, name: str, owner: Standing | None, data: Mapping[str, str]
    ) -> None:
        """Write it as ours. Args: owner: with which it is collected."""

    async def delete_config_map(self, namespace: str, name: str) -> None: ...

    async def secret(self, name: str) -> Secret | None:
        """One of the controller's own namespace."""

    async def write_secret(self, name: str, secret: Secret) -> None:
        """Create or update one. Raises: Conflict: somebody else did."""
