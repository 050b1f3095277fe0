"""Access files edited under load: every call is answered, by the old or by the new file."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.tools.sentinel_up import Up
from tests.tools.stack import ALLOWED, Load, governed, load
from tests.tools.waiting import eventually

AGENT = "edited-agent"
EDITS = 16
OTHERS = 40  # grants in the same file, so that it is written in several pieces
SETTLED = 24  # calls that must follow an edit once one has


def grants(*, disabled: bool) -> str:
    """A file of many grants; the last is the agent's."""
    documents = [_grant(f"other-{number}", disabled=False) for number in range(OTHERS)]
    return "---\n".join([*documents, _grant(AGENT, disabled=disabled)])


def _grant(agent: str, *, disabled: bool) -> str:
    spec = {
        "serverRef": {"name": "reference-server"},
        "subject": {"agentID": agent},
        "disabled": disabled,
    }
    metadata = {"name": agent, "namespace": "mcp-servers"}
    return yaml.safe_dump(
        {
            "apiVersion": "mcpruntime.org/v1alpha1",
            "kind": "MCPAccessGrant",
            "metadata": metadata,
            "spec": spec,
        }
    )


def rename(file: Path, text: str) -> None:
    """As careful editors save."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def rewrite(file: Path, text: str) -> None:
    """As simple editors save: the file is empty for a moment."""
    file.write_text(text)


def rewrite_in_pieces(file: Path, text: str) -> None:
    """As a copy comes: for a moment, valid YAML in which the last grant is missing."""
    head, mark, tail = text.rpartition("---\n")
    with file.open("w") as opened:
        opened.write(head)
        opened.flush()
        opened.write(mark + tail)


def swap_folder(file: Path, text: str) -> None:
    """As a mounted ConfigMap changes: the file is a link through a folder that is swapped."""
    fresh = file.parent / f"..{os.urandom(4).hex()}"
    fresh.mkdir()
    (fresh / file.name).write_text(text)
    data, temporary = file.parent / "..data", file.parent / "..data_tmp"
    old = data.resolve() if data.exists() else None
    temporary.symlink_to(fresh.name)
    temporary.rename(data)
    if not file.is_symlink():
        link = file.with_suffix(".link")
        link.symlink_to(Path("..data", file.name))
        link.rename(file)
    if old:
        shutil.rmtree(old)


SAVES = (rename, rewrite, rewrite_in_pieces, swap_folder)


async def expect(running: Load, possible: list[set[str]], reason: str) -> None:
    """What was just saved gives `reason`: one call follows it, and from then on every call."""
    await running.until(
        lambda: any(a.began == running.stage and a.reason == reason for a in running.answers),
        f"the edit counts: {reason}",
    )
    possible.append({reason})
    running.stage += 1
    await running.answered(SETTLED)


def assert_decided(running: Load, possible: list[set[str]]) -> None:
    """No call failed, and each was decided by a file that stood while it ran."""
    assert not running.cut
    for answer in running.answers:
        assert answer.status == 200
        assert answer.reason in set().union(*possible[answer.began : answer.ended + 1]), answer


@pytest.fixture(scope="module")
def loads() -> list[Load]:
    return []


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, loads: list[Load]) -> Iterator[Up]:
    """The stack; at its end, every call of `loads` must stand in the trail as it was answered."""
    with governed(tmp_path_factory.mktemp("edits"), loads=loads) as running:
        yield running


@pytest.fixture
def file(up: Up) -> Path:
    """The file that is edited; it allows the agent."""
    edited = up.state / "access" / "edited.yaml"
    edited.write_text(grants(disabled=False))
    eventually(lambda: up.reason("echo", AGENT) == ALLOWED, "the grant counts")
    return edited


async def test_edits_under_load_give_the_old_or_the_new_decision(
    up: Up, file: Path, loads: list[Load]
) -> None:
    """However a file is saved: no failed call, no third decision, none that goes back."""
    possible = [{ALLOWED}]
    async with load(up, AGENT) as running:
        loads.append(running)
        for number in range(EDITS):
            reason = ("grant_disabled", ALLOWED)[number % 2]
            possible.append(possible[-1] | {reason})
            running.stage += 1
            SAVES[number // 2 % len(SAVES)](file, grants(disabled=reason != ALLOWED))
            await expect(running, possible, reason)
    assert_decided(running, possible)


async def test_a_broken_file_changes_nothing_until_it_is_mended(
    up: Up, file: Path, loads: list[Load]
) -> None:
    """The fault shows in status while calls are decided as before; the mended file counts."""
    possible = [{ALLOWED}]
    async with load(up, AGENT) as running:
        loads.append(running)
        for broken in (grants(disabled=True).replace("disabled: true", "disabled: [tru"), ""):
            file.write_text(broken)
            await until_faults(up, "edited.yaml")
            await running.answered(len(running.answers) + SETTLED)
        possible.append({ALLOWED, "grant_disabled"})
        running.stage += 1
        file.write_text(grants(disabled=True))
        await expect(running, possible, "grant_disabled")
        await until_faults(up)
    assert_decided(running, possible)


async def until_faults(up: Up, *files: str) -> None:
    """Wait until `sentinel status` shows faults of these files and no others."""

    def shown() -> bool:
        return [fault["file"] for fault in up.status()["faults"]] == [*files]

    await asyncio.to_thread(eventually, shown, f"faults of {files}")
