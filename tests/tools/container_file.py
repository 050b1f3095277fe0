"""The container file, read: the steps of its stages, and what a build is given."""

import json
import shlex
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from dockerfile_parse import DockerfileParser
from pathspec import PathSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "k8s/images/Dockerfile"


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction.

    Attributes:
        words: its arguments; of RUN, ENTRYPOINT and CMD the list that they are written as.
        at: folder that relative paths count from.
        source: of a COPY, the stage that it copies from; empty for the build's context.
    """

    name: str
    words: tuple[str, ...]
    at: str = "/"
    source: str = ""


@dataclass(slots=True)
class Stage:
    """A stage.

    Attributes:
        base: another stage's name, or that of an image.
        at: its working directory at its end.
    """

    name: str
    base: str
    at: str = "/"
    steps: list[Step] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    """All stages of the container file, by name.

    Raises:
        ValueError: an instruction is not written as a list where this project wants one.
    """
    found: dict[str, Stage] = {}
    with FILE.open("rb") as file:
        written = DockerfileParser(fileobj=file).structure
    for each in written:
        name, value = each["instruction"], each["value"]
        if name == "FROM":
            base, _, stage = value.split()
            at = found[base].at if base in found else "/"
            found[stage] = last = Stage(stage, base, at)
        elif name == "WORKDIR":
            last.at = value
        elif name != "COMMENT":
            last.steps.append(_step(name, value, last.at))
    return found


def _step(name: str, value: str, at: str) -> Step:
    if name in {"RUN", "ENTRYPOINT", "CMD"}:
        return Step(name, tuple(json.loads(value)), at)
    words = tuple(shlex.split(value))
    if name == "COPY" and words[0].startswith("--from="):
        return Step(name, words[1:], at, words[0].removeprefix("--from="))
    return Step(name, words, at)


def images() -> list[str]:
    """The stages that are images: those that say what runs in them."""
    return [name for name, stage in stages().items() if _last(stage, "ENTRYPOINT")]


def setting(image: str, name: str) -> tuple[str, ...]:
    """The words of the last such instruction of an image, in it or in what it is made from."""
    all_stages, at = stages(), image
    while at in all_stages:
        if found := _last(all_stages[at], name):
            return found.words
        at = all_stages[at].base
    return ()


def _last(stage: Stage, name: str) -> Step | None:
    return next((step for step in reversed(stage.steps) if step.name == name), None)


def context(source: str) -> list[Path]:
    """The files that COPY takes for a source."""
    path = ROOT / source
    files = path.rglob("*") if path.is_dir() else [path]
    named = {str(file.relative_to(ROOT)): file for file in files if file.is_file()}
    return [named[name] for name in sorted(named) if not is_ignored(name)]


def is_ignored(name: str) -> bool:
    """Whether .dockerignore leaves a file out. Args: name: its path from the top."""
    return _ignored().match_file(name)


@cache
def _ignored() -> PathSpec:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    # Docker's patterns count from the top; Git's do so with a slash in front.
    return PathSpec.from_lines(GitIgnoreSpecPattern, map(_anchored, patterns))


def _anchored(pattern: str) -> str:
    negation = "!" if pattern.startswith("!") else ""
    return f"{negation}/{pattern.removeprefix('!')}"
