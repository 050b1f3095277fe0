"""A clock that a test sets back under running processes."""

from pathlib import Path

import libfaketime

_LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"


class Clock:
    """The clock of all Python processes that are started with `path` on their PYTHONPATH.

    Args:
        folder: made here.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        folder.mkdir(parents=True)
        library = Path(libfaketime.__file__).parent / _LIBRARY
        (folder / "library").write_text(str(library))
        source = Path(__file__).with_name("sitecustomize.py")
        (folder / "sitecustomize.py").write_text(source.read_text())
        self.shift(0)

    def shift(self, seconds: int) -> None:
        """Let the clock differ by so much from the true one; heard within a second."""
        fresh = self.path / "offset.new"
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self.path / "offset")
