"""Generate `protos/gen` from the sources beside this file: `python -m protos.generate`."""

import importlib.resources
import sys
from pathlib import Path

SOURCES = Path(__file__).parent
# The sources name each other by where their code will be imported from.
GENERATED = "protos/gen"


def generate(root: Path) -> None:
    """Write messages, type stubs and gRPC stubs below `root`/protos/gen.

    Raises:
        RuntimeError: the compiler refused; it has printed why.
    """
    # A development tool, absent where this package only runs.
    from grpc_tools import protoc  # type: ignore[import-untyped]

    files = {source: source.read_text() for source in sorted(SOURCES.glob("*.proto"))}
    names = [f"{GENERATED}/{source.name}" for source in files]
    services = [f"{GENERATED}/{s.name}" for s, text in files.items() if "\nservice " in text]
    includes = [
        f"-I{GENERATED}={SOURCES}",
        f"-I{importlib.resources.files('grpc_tools') / '_proto'}",  # google.protobuf
        f"-I{Path(str(importlib.resources.files('google.rpc') / 'status.proto')).parents[2]}",
    ]
    for arguments in (
        [f"--python_out={root}", f"--pyi_out={root}", *names],
        [f"--grpc_python_out={root}", *services],
    ):
        if protoc.main(["protoc", *includes, *arguments]) != 0:
            raise RuntimeError("protoc refused; mend the source it names above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCES.parent)
