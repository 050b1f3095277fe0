"""Make the keys of Secret `mcp-sentinel-secrets` (02-secrets.yaml), as a patch for kubectl:

python3 k8s/new_keys.py | kubectl patch secret mcp-sentinel-secrets \\
    --namespace mcp-sentinel --type=json --patch-file=/dev/stdin

It is refused where there are keys already: they are in use, and changed one by one.
"""

import json
import secrets
import sys
from base64 import b64encode
from typing import Final

# Each its own; none has characters that a URL or a list would read in another way.
PASSWORDS: Final = (
    "INGEST_API_KEYS",  # producers of events that are no sidecars
    "UI_SESSION_KEYS",  # what the dashboard encrypts its sessions with
    "CLICKHOUSE_PASSWORD",  # the components' own, and what servers say to each other
    "CLICKHOUSE_NODE_PASSWORD",
    "KAFKA_PASSWORD",
    "KAFKA_NODE_PASSWORD",
)
# One key, which may do everything, under the names that mcp-runtime's users know.
ADMIN: Final = ("API_KEYS", "ADMIN_API_KEYS", "UI_API_KEY")


def new_keys() -> dict[str, str]:
    """Random values by name."""
    admin = secrets.token_hex(32)
    return dict.fromkeys(ADMIN, admin) | {name: secrets.token_hex(32) for name in PASSWORDS}


def patch(keys: dict[str, str]) -> str:
    """As a JSON patch, which holds only where the Secret is empty."""
    data = {name: b64encode(value.encode()).decode() for name, value in keys.items()}
    steps = [
        {"op": "test", "path": "/data", "value": None},
        {"op": "add", "path": "/data", "value": data},
    ]
    return json.dumps(steps)


if __name__ == "__main__":
    sys.stdout.write(patch(new_keys()))
