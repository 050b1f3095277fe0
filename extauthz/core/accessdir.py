"""Which files of an access directory count: the only place where core looks at a disk."""

import os
from pathlib import Path
from typing import Final

SUFFIXES: Final = (".yaml", ".yml")


def find(folder: Path) -> list[Path]:
    """The YAML files under a folder, sorted; links are followed, hidden names left out.

    A ConfigMap mount keeps its versions under hidden names (`..data`) and links to them.

    Raises:
        OSError: where a folder cannot be listed.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        stat = os.stat(root)
        if (stat.st_dev, stat.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in files if not name.startswith("."))
        found += [Path(root, name) for name in names if name.lower().endswith(SUFFIXES)]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error
