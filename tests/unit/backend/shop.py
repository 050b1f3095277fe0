"""A shop with two grants, for tests of who can do what."""

SHOP = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: shop, namespace: %(namespace)s}
spec:
  session: {required: %(session_required)s}
  tools:
    - {name: list, sideEffect: read}
    - {name: refund, sideEffect: destructive, requiredTrust: high}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: reads, namespace: %(namespace)s}
spec:
  serverRef: {name: shop}
  subject: {agentID: ops}
  maxTrust: medium
  toolRules: [{name: list}, {name: refund}]
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: refunds, namespace: %(namespace)s}
spec:
  serverRef: {name: shop}
  subject: {humanID: ada, agentID: ops}
  maxTrust: high
  expiresAt: "%(end)s"
"""


def shop(namespace: str, *, end: str, session_required: bool) -> str:
    """Its server and its grants, as YAML.

    Args:
        end: of the grant for refunds, RFC 3339.
    """
    required = str(session_required).lower()
    return SHOP % {"namespace": namespace, "end": end, "session_required": required}
