"""`sentinel adopt`: takes the policies over that mcp-runtime's operator wrote."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from backend import wiring_adapters
from backend.cli.adoption import Verdict, judge
from backend.cli.console import FAILED, Failure, printable, warn
from backend.cli.options import output_option, print_told
from backend.cli.places import MANAGER, cluster_options
from backend.ports.adoption import Adoption, PolicyMap
from backend.rendering import Bindings, rendered
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Conflict, Invalid, NotFound, Retryable
from extauthz.core.findings import findings
from extauthz.core.governance import Key
from extauthz.core.model import Binding, MCPServer

SAYS: Final = {
    "ours": "Sentinel's own",
    "absent": "no ConfigMap of a policy; the controller writes it",
    "theirs": "not Sentinel's",
    "kept": "left alone",
    "differs": "left alone, for it would change; look, then --accept-differences",
    "adopted": "adopted",
    "released": "given back",
}
WOULD: Final = {"adopted": "would be adopted", "released": "would be given back"}
LEFT: Final = frozenset({"kept", "differs"})
DEFINE: Final = "replace it with `kubectl apply -f k8s/crds`, which keeps its objects"
NOTE: Final = "note: mcp-runtime's operator takes these back while it runs; end it first"


@dataclass(frozen=True, slots=True)
class _Told:
    """What became of one server's policy. Args: looks: at what somebody should look."""

    server: ObjectRef
    verdict: Verdict
    looks: Sequence[str]

    @property
    def plain(self) -> dict[str, Any]:
        return {"server": str(self.server)} | asdict(self.verdict) | {"findings": list(self.looks)}


@click.command()
@click.argument("servers", nargs=-1, metavar="[NS/NAME]...")
@click.option("--release", is_flag=True, help="Give back what was adopted.")
@click.option("--accept-differences", is_flag=True, help="Adopt what would change, too.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Change nothing; tell what would change.")
@output_option("servers whose policy is handed over")
@cluster_options
def adopt(
    *,
    servers: Sequence[str],
    release: bool,
    accept_differences: bool,
    is_dry: bool,
    output: str,
    kubeconfig: Path | None,
    context: str,
) -> None:
    """Take the policies of MCPServers over from mcp-runtime, those named or all.

    Each is in a ConfigMap, which the controller leaves alone while it is another's. What would
    change for who reads it is told, and where anything would, it stays as it is. Exit code 1
    where one was left alone.
    """
    file = str(kubeconfig) if kubeconfig else ""
    world = _World.of(file, context)
    adoption = wiring_adapters.new_adoption(file, context, MANAGER)
    _tell_definitions(adoption)
    hand_over = _release if release else partial(_adopt, accepts=accept_differences)
    told = []
    for each in world.chosen(servers):
        try:
            told.append(hand_over(adoption, world, each, is_dry=is_dry))
        except (Conflict, NotFound) as error:  # changed or deleted since it was read
            told.append(_Told(each, Verdict("kept", str(error)), ()))
    moved = [each for each in told if each.verdict.state in WOULD]
    if not print_told(output, [each.plain for each in told], (each.server for each in moved)):
        _show(told, is_dry=is_dry)
    if moved and not release:
        warn(NOTE)
    if any(each.verdict.state in LEFT for each in told):
        raise SystemExit(FAILED)


class _World:
    """The custom resources, read once. Args: faults: of what cannot be read."""

    def __init__(
        self, servers: Sequence[MCPServer], bindings: Bindings, faults: Mapping[Key, Invalid]
    ) -> None:
        self.servers = {ObjectRef(each.namespace, each.name): each for each in servers}
        self.bindings, self.faults, self.now = bindings, faults, time.time()

    @classmethod
    def of(cls, kubeconfig: str, context: str) -> "_World":
        faults: dict[Key, Invalid] = {}
        keep: Callable[[Key, Invalid], None] = faults.__setitem__
        store = wiring_adapters.new_cluster_store(kubeconfig, context, MANAGER, keep)
        found = cls(store.servers(), Bindings.of(store), faults)
        for key, why in sorted(faults.items()):
            warn(f"warning: {key.kind} {key.namespace}/{key.name} does not count: {why}")
        return found

    def chosen(self, names: Sequence[str]) -> list[ObjectRef]:
        """The servers of these names; all that can be read where none is named."""
        if not names:
            return list(self.servers)
        by_name = {str(each): each for each in self.servers}
        for name in names:
            if name not in by_name:
                why = self.faults.get(Key("MCPServer", *name.partition("/")[::2]))
                mend = f"it cannot be read: {why}" if why else "look at `kubectl get mcps -A`"
                raise Failure(f"no MCPServer `{name}` to adopt; {mend}")
        return [by_name[name] for name in names]

    def looks(self, server: ObjectRef) -> Iterator[str]:
        """What Sentinel says of its grants and sessions, and mcp-runtime does not."""
        all_of_them: Sequence[Binding] = (*self.bindings.grants, *self.bindings.sessions)
        for item in all_of_them:
            if item.server == server:
                name = f"{type(item).__name__} {item.namespace}/{item.name}"
                for each in findings(item, self.servers, self.now):
                    yield f"{name}: {each.field}: {each.problem}; {each.mend}"

    def verdict(self, adoption: Adoption, server: ObjectRef) -> tuple[PolicyMap | None, Verdict]:
        """The ConfigMap, and what may be done about it. Raises: NotFound."""
        found = adoption.policy_map(server)
        now = datetime.fromtimestamp(self.now, UTC)
        return found, judge(found, rendered(self.servers[server], self.bindings, "", now))


def _adopt(
    adoption: Adoption, world: _World, server: ObjectRef, *, accepts: bool, is_dry: bool
) -> _Told:
    found, verdict = world.verdict(adoption, server)
    looks = tuple(world.looks(server))
    if found is None or verdict.state != "theirs":
        return _Told(server, verdict, looks)
    if verdict.differences and not accepts:
        return _Told(server, replace(verdict, state="differs"), looks)
    adoption.adopt(server, found, rehearsed=is_dry)
    return _Told(server, replace(verdict, state="adopted"), looks)


def _release(adoption: Adoption, world: _World, server: ObjectRef, *, is_dry: bool) -> _Told:
    found, verdict = world.verdict(adoption, server)
    if found is None or verdict.state != "ours":
        state = "absent" if found is None else "theirs"
        return _Told(server, Verdict(state), ())
    if not found.adopted_from:
        return _Told(server, Verdict("kept", "it was nobody else's before"), ())
    adoption.release(server, found, rehearsed=is_dry)
    return _Told(server, Verdict("released", f"to {found.adopted_from}"), ())


def _tell_definitions(adoption: Adoption) -> None:
    """What a definition of mcp-runtime's does not have is dropped from objects, unsaid."""
    try:
        foreign = adoption.foreign_definitions()
    except Retryable as error:
        warn(f"note: whose the definitions of the custom resources are is not known: {error}")
        return
    for name in foreign:
        why = "knows fewer fields, and refuses less"
        warn(f"note: the definition {name} is not Sentinel's: it {why}; {DEFINE}")


def _show(told: Sequence[_Told], *, is_dry: bool) -> None:
    if not told:
        print("no MCPServer can be read here")
    for each in told:
        verdict = each.verdict
        state = verdict.state
        says = (WOULD if is_dry else SAYS).get(state) or SAYS.get(state, state)
        print(printable(f"{each.server}: {says}{f': {verdict.why}' if verdict.why else ''}"))
        for difference in verdict.differences:
            print(printable(f"  differs: {difference}"))
        for look in each.looks:
            print(printable(f"  look at: {look}"))
