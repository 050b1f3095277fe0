"""Real MCP clients behind one interface, so that a test can loop over them."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TYPESCRIPT = HERE / "typescript"

COMMANDS: Mapping[str, Sequence[str]] = {
    "python-legacy": (sys.executable, str(HERE / "python_client.py"), "legacy"),
    "python-modern": (sys.executable, str(HERE / "python_client.py"), "auto"),
    "typescript-v1-legacy": ("node", str(TYPESCRIPT / "v1.mjs")),
    "typescript-v2-legacy": ("node", str(TYPESCRIPT / "v2.mjs"), "legacy"),
    "typescript-v2-modern": ("node", str(TYPESCRIPT / "v2.mjs"), "auto"),
}

MODES = tuple(COMMANDS)
"""The five client modes: an SDK and the protocol era it speaks."""


def is_modern(mode: str) -> bool:
    """Whether the mode speaks the stateless protocol of 2026-07-28."""
    return mode.endswith("-modern")


def run(
    mode: str,
    url: str,
    headers: Mapping[str, str],
    actions: Sequence[Mapping[str, Any]],
    *,
    timeout_seconds: float = 120,
) -> list[dict[str, Any]]:
    """Do `actions` in one client session; one answer for each, in order.

    README.md lists the actions and the members of an answer. Raises AssertionError, with what
    the client wrote, when it did not answer every action.
    """
    if mode.startswith("typescript"):
        installed = (TYPESCRIPT / "node_modules").is_dir()
        assert installed, f"the TypeScript SDKs are not installed: run `npm ci` in {TYPESCRIPT}"
    task = json.dumps({"url": url, "headers": dict(headers), "actions": list(actions)})
    done = subprocess.run(
        COMMANDS[mode],
        input=task,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(actions), f"{mode} ended early:\n{done.stdout}{done.stderr}"
    return answers
