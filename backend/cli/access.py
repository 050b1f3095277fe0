"""An access directory, or one file of it, as the command line reads it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.cli.state import StateFolder
from extauthz.core import accessdir
from extauthz.core.errors import Invalid, NotFound
from extauthz.core.manifests import Fault, Placed, read_manifest
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.render import render
from extauthz.core.times import format_instant

STARTER = Path(__file__).parent / "starter.yaml"
DEMO_ACCESS = Path(__file__).parents[1] / "demo" / "access"


@dataclass(frozen=True, slots=True)
class Access:
    """All custom resources that were read, and all that is wrong with them.

    Args:
        files: how many files were read.
        objects: in the order of files and documents.
        faults: of files and of single objects.
    """

    files: int
    objects: tuple[Placed, ...]
    faults: tuple[Fault, ...]

    @property
    def servers(self) -> list[MCPServer]:
        return [each.resource for each in self.objects if isinstance(each.resource, MCPServer)]

    @property
    def grants(self) -> list[MCPAccessGrant]:
        return [each.resource for each in self.objects if isinstance(each.resource, MCPAccessGrant)]

    @property
    def sessions(self) -> list[MCPAgentSession]:
        found = (each.resource for each in self.objects)
        return [resource for resource in found if isinstance(resource, MCPAgentSession)]

    def document(self, server: MCPServer, now: float) -> dict[str, Any]:
        """The policy document of one server.

        Raises:
            Invalid: an object cannot be rendered.
        """
        generated_at = format_instant(now)
        return render(server, self.grants, self.sessions, generated_at=generated_at)


def read_access(path: Path) -> Access:
    """Read one YAML file, or those of a folder, the same ones as the decision point.

    Raises:
        NotFound: the folder cannot be listed.
    """
    try:
        is_folder = path.is_dir()
        files = accessdir.find(path) if is_folder else [path]
    except OSError as error:
        raise NotFound(f"`{path}` cannot be read ({error.strerror}); make it readable") from error
    read = accessdir.read if is_folder else Path.read_bytes  # who names a pipe means it
    manifests = [_read(file, read) for file in files]
    return Access(
        files=len(files),
        objects=tuple(placed for objects, _ in manifests for placed in objects),
        faults=tuple(fault for _, faults in manifests for fault in faults),
    )


def choose_server(access: Access, wanted: str, where: Path) -> MCPServer:
    """The server that is named, or the only one there is.

    Args:
        access: what was read.
        wanted: `NAMESPACE/NAME`; empty for the only one.
        where: the folder, for the message.

    Raises:
        NotFound: no such server.
        Invalid: there are several and none is named.
    """
    by_name = {f"{server.namespace}/{server.name}": server for server in access.servers}
    if wanted:
        if wanted not in by_name:
            known = ", ".join(by_name) or "none"
            raise NotFound(f"`{where}` has no MCPServer `{wanted}`; it has: {known}")
        return by_name[wanted]
    if not by_name:
        raise NotFound(
            f"`{where}` has no readable MCPServer; add one, or see `sentinel policy check {where}`"
        )
    if len(by_name) > 1:
        names = ", ".join(by_name)
        raise Invalid("--server", f"`{where}` has several MCPServers ({names})", "name one")
    return next(iter(by_name.values()))


def default_access(folder: StateFolder, *, is_demo: bool) -> Path:
    """An access directory in the state folder, with objects to begin with; never overwritten."""
    access = folder.access if is_demo else folder.own_access
    if not access.exists():
        if is_demo:
            shutil.copytree(DEMO_ACCESS, access)
        else:
            access.mkdir()
            shutil.copy(STARTER, access / STARTER.name)
    return access


def _read(
    file: Path, read: Callable[[Path], bytes]
) -> tuple[tuple[Placed, ...], tuple[Fault, ...]]:
    try:
        raw = read(file)
    except OSError as error:
        return (), (Fault(str(file), 0, "", f"cannot be read ({error.strerror})", "see to it"),)
    manifest = read_manifest(raw, str(file))
    return manifest.objects, manifest.faults
