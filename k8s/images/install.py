"""What a container file's build stage runs: the files of an image, made of locks and code.

    python install.py libraries LOCK FOLDER   a virtual environment of what LOCK names
    python install.py code SOURCE FOLDER      and into it, this project's packages in SOURCE

It needs `strip` (binutils) on the PATH, and `code` needs setuptools beside it.
"""

import compileall
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

# What compiled modules are made of, types for checkers, and packages' own tests.
UNUSED: Final = ("*.c", "*.h", "*.pxd", "*.pxi", "*.pyi", "*.pyx", "*.proto", "test", "tests")
PIP: Final = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def libraries(lock: Path, folder: Path) -> None:
    """Make a virtual environment of what a lock file names, every file checked by its hash."""
    venv.create(folder, clear=True, symlinks=True)
    _install(folder, "--require-hashes", "--only-binary=:all:", "--requirement", str(lock))
    _trim(folder)
    # What names things for debuggers is up to five sixths of a compiled module.
    compiled = _packages(folder).rglob("*.so")
    subprocess.run(["strip", "--strip-unneeded", *compiled], check=True)


def code(source: Path, folder: Path) -> None:
    """Add this project to a virtual environment: the packages that are in `source`."""
    with tempfile.TemporaryDirectory() as made:
        offline = ("--no-deps", "--no-index")
        wheel = ("wheel", *offline, "--no-build-isolation", "--wheel-dir", made, str(source))
        subprocess.run([*PIP, *wheel], check=True)
        _install(folder, *offline, *map(str, Path(made).glob("*.whl")))
    _trim(folder)


def _install(folder: Path, *what: str) -> None:
    into = ("--python", str(folder / "bin/python"), "install", "--root-user-action=ignore")
    subprocess.run([*PIP, *into, "--no-compile", *what], check=True)


def _trim(folder: Path) -> None:
    packages = _packages(folder)
    for unused in [found for pattern in UNUSED for found in packages.rglob(pattern)]:
        if unused.is_dir():
            shutil.rmtree(unused)
        else:
            unused.unlink(missing_ok=True)  # it may have been in one of these folders
    for command in (folder / "bin").iterdir():
        if not command.name.startswith("python"):  # what runs, runs by `python -m`
            command.unlink()
    # Compiled now, for the file system is read-only when it runs. Source and compiled module
    # beside each other would weigh twice; what fails still names its file and line.
    if not compileall.compile_dir(packages, quiet=1, legacy=True, workers=0):
        raise SystemExit(f"error: not all of `{packages}` compiles")
    for module in packages.rglob("*.py"):
        module.unlink()


def _packages(folder: Path) -> Path:
    (found,) = folder.glob("lib/python*/site-packages")
    return found


if __name__ == "__main__":
    steps = {"libraries": libraries, "code": code}
    step, *paths = sys.argv[1:]
    steps[step](*map(Path, paths))
