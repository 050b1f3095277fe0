"""`python -m tests.perf.pipeline.record FOLDER`: the processor, and every insert it makes, kept.

Settings are the environment's. What is kept is what the bare limit inserts: the same bytes in the
same batches.
"""

import itertools
import pickle
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from clickhouse_connect.driver._backendclient import SyncBackendClient

from backend.__main__ import main


def _keep(folder: Path) -> None:
    client_class: Any = SyncBackendClient
    numbers, insert = itertools.count(), client_class.raw_insert

    def kept(client: Any, *into: Any, insert_block: BinaryIO, **named: Any) -> Any:
        """As the store calls it: a stream, which no client can send again."""
        block = insert_block.read()
        path = folder / f"{next(numbers):06}.insert"
        path.write_bytes(pickle.dumps((into, block, named)))
        return insert(client, *into, insert_block=BytesIO(block), **named)

    client_class.raw_insert = kept


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
    main(["--target", "processor"])
