"""Carries out the container file's steps without a container engine.

A folder stands in place of `/`, and a virtual environment in place of the base image's Python.
What was installed from a lock file is kept in build/images, and used again as long as nothing
that it was made of changes.

    python -m tests.tools.image_files FOLDER   makes them all there, and prints what they weigh
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.tools.container_file import ROOT, Step, context, images, setting, stages

KEPT: Final = ROOT / "build/images"
SECONDS: Final = 1200.0  # for one step: it installs from afar
# What base images bring, and the container file copies from them.
OF_BASE_IMAGES: Final = {"/etc/ssl/certs/ca-certificates.crt"}


@dataclass(frozen=True, slots=True)
class Image:
    """The files of an image, without those of its base image.

    Attributes:
        root: stands for `/`.
    """

    name: str
    root: Path

    @property
    def bytes(self) -> int:
        """What its files weigh."""
        files = (path for path in self.root.rglob("*") if not path.is_symlink() and path.is_file())
        return sum(path.stat().st_size for path in files)

    def command(self, *arguments: str) -> list[str]:
        """What a container runs.

        Args:
            arguments: in place of its default ones, as `args` of a manifest.
        """
        words = (*setting(self.name, "ENTRYPOINT"), *(arguments or setting(self.name, "CMD")))
        return [_here(word, self.root) for word in words]


class Builder:
    """Makes images, each stage once.

    Args:
        folder: takes a folder for each stage.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._stages = folder.absolute(), stages()

    def image(self, name: str) -> Image:
        """Raises: AssertionError: a step fails, with what it says."""
        return Image(name, self._root(name))

    def _root(self, stage: str) -> Path:
        root = self._folder / stage
        if not root.exists():
            self._carry_out(self._steps(stage), root)
        return root

    def _steps(self, stage: str) -> list[Step]:
        base = self._stages[stage].base
        before = self._steps(base) if base in self._stages else []
        return [*before, *self._stages[stage].steps]

    def _carry_out(self, steps: Sequence[Step], root: Path) -> None:
        kept = max((count for count, step in enumerate(steps, 1) if _installs(step)), default=0)
        if kept:
            shutil.copytree(self._installed(steps[:kept]), root, symlinks=True)
        else:
            root.mkdir(parents=True)
        for step in steps[kept:]:
            self._do(step, root)

    def _installed(self, steps: Sequence[Step]) -> Path:
        """What is there after steps of which the last installs from a lock file."""
        kept = KEPT / _digest(steps)
        if not kept.exists():
            partial = kept.with_suffix(f".{os.getpid()}")
            self._carry_out(steps[:-1], partial)
            self._do(steps[-1], partial)
            partial.rename(kept)
        return kept

    def _do(self, step: Step, root: Path) -> None:
        if step.name == "RUN":
            _run(step, root)
        elif step.name == "COPY":
            *sources, destination = step.words
            target = root / os.path.join(step.at, destination).removeprefix("/")
            for source in sources:
                self._copy(step, source, target, into=destination.endswith("/"))

    def _copy(self, step: Step, source: str, target: Path, *, into: bool) -> None:
        if not step.source:
            place, files = ROOT / source, context(source)
        elif source in OF_BASE_IMAGES:
            return
        else:
            place = self._root(step.source) / source.removeprefix("/")
            files = [path for path in [place, *place.rglob("*")] if not _is_folder(path)]
        assert files, f"COPY takes nothing for `{source}`"
        for file in files:
            within = file.relative_to(place) if file != place else Path(place.name if into else "")
            (target / within).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target / within, follow_symlinks=False)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _installs(step: Step) -> bool:
    return step.name == "RUN" and any(word.endswith(".lock") for word in step.words)


def _digest(steps: Sequence[Step]) -> str:
    """Of the steps, of what they copy, and of the Python that they run."""
    digest = hashlib.sha256(sys.version.encode())
    for step in steps:
        digest.update(repr(step).encode())
        if step.name == "COPY" and not step.source:
            for file in (file for source in step.words[:-1] for file in context(source)):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _run(step: Step, root: Path) -> None:
    python = root / "usr/local/bin/python"
    if not python.exists():
        venv.create(python.parents[1], with_pip=True, symlinks=True)
    assert step.words[0] == "python", f"nothing stands for `{step.words[0]}` here"
    done = subprocess.run(
        [python, *(_here(word, root) for word in step.words[1:])],
        cwd=root / step.at.removeprefix("/"),
        env=_environ(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(step.words)}\n{done.stdout}{done.stderr}"


def _environ() -> Mapping[str, str]:
    """Where packages come from is told by the environment; what Python runs by is not."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _here(word: str, root: Path) -> str:
    return f"{root}{word}" if word.startswith("/") else word


def main(folder: Path) -> None:
    """Make all images in a folder, anew, and print what each weighs."""
    shutil.rmtree(folder, ignore_errors=True)
    builder = Builder(folder)
    for name in images():
        print(f"{builder.image(name).bytes / 1e6:6.1f} MB  {name}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
