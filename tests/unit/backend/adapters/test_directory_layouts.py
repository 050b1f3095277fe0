"""However a person laid a file out: an edit of it is right, or refused and nothing written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backend.adapters.directory import DirectoryStore
from extauthz.core.errors import Invalid
from extauthz.core.model import MCPAccessGrant, Subject, ToolRule

HEAD = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: g, namespace: n}
"""
LAYOUTS = {
    "complex": """\
HEAD
spec:
  ? serverRef
  : {name: shop}
  ? subject
  : agentID: a
  ? maxTrust
  : high
""",
    "null": """\
HEAD
spec:
  serverRef: {name: shop}
  subject: {agentID: a}
  maxTrust:
  toolRules:
  expiresAt: ~
  policyVersion: ''
  disabled: false
""",
    "emptyflow": """\
HEAD
spec:
  serverRef: {name: shop}
  subject: {agentID: a,}
  toolRules: []
""",
    "multiflow": """\
HEAD
spec: {
  serverRef: {name: shop}, # c
  subject: {agentID: a}, # who
  # rules
  toolRules: [{name: a}, # x
    {name: b, decision: deny}], maxTrust: high,
  }
""",
    "dashnext": """\
HEAD
spec:
  serverRef:
    name: shop
  subject:
    agentID: a
  toolRules:
  -
    name: a
  -   # c
    name: b
    requiredTrust: low
""",
    "dashfirst": """\
HEAD
spec:
  serverRef:
    name: shop
  subject:
    agentID: a
  toolRules:
  - requiredTrust: low
    name: a
  - decision: deny
    name: b
""",
    "quoted": """\
HEAD
'spec':
  "serverRef": {name: shop}
  'subject': {'agentID': a}
  "maxTrust": 'low'
""",
    "tags": """\
HEAD
spec: !!map
  serverRef: {name: !!str shop}
  subject: {agentID: !!str 12}
  maxTrust: !!str low
""",
    "block": """\
HEAD
spec:
  serverRef: {name: shop}
  subject: {agentID: a}
  maxTrust: >-
    low
  policyVersion: |-
    v1
  # after
""",
    "indentless": """\
HEAD
spec:
  serverRef: {name: shop}
  subject: {agentID: a}
  toolRules:
  - {name: a}
  - name: b
  allowedSideEffects:
  - read
  # x
  - write
""",
    "dupanchor": """\
HEAD
status: [&a x, &a y]
spec:
  serverRef: {name: shop}
  subject: {agentID: a}
""",
    "otheranchor": """\
apiVersion: v1
kind: ConfigMap
x: [&a x, &a y]
---
HEAD
spec:
  serverRef: {name: shop}
  subject: {agentID: a}
""",
    "merge": """\
apiVersion: v1
kind: ConfigMap
---
HEAD
spec:
  <<: {maxTrust: high}
  serverRef: {name: shop}
  subject: {agentID: a}
""",
    "directive": """\
%YAML 1.1
---
HEAD
spec:
  serverRef: {name: shop}
  subject: {agentID: a}
...
""",
    "same": """\
--- {apiVersion: mcpruntime.org/v1alpha1, kind: MCPAccessGrant, metadata: {name: g, namespace: n},
  spec: {serverRef: {name: shop}, subject: {agentID: a}}}
""",
    "emoji": """\
# 🔑é
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {labels: {a: 🔑}, name: g, namespace: n}
spec: # 🔑
  serverRef: {name: shop}
  subject: {agentID: a🔑} # 🔑
""",
    "tab": """\
HEAD
spec:
  serverRef:\t{name: shop}\t# x
  subject: {agentID: a}\t#y
""",
    "nest": """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: List
  items:
  - apiVersion: mcpruntime.org/v1alpha1
    kind: MCPAccessGrant
    metadata: {name: g, namespace: n}
    spec:
      serverRef: {name: shop}
      subject: {agentID: a}
- {apiVersion: v1, kind: ConfigMap}
""",
    "jsonlist": """\
{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"mcpruntime.org/v1alpha1","kind":"MCPAccessGrant","metadata":{"name":"g","namespace":"n"},"spec":{"serverRef":{"name":"shop"},"subject":{"agentID":"a"}}},{"apiVersion":"mcpruntime.org/v1alpha1","kind":"MCPAccessGrant","metadata":{"name":"h","namespace":"n"},"spec":{"serverRef":{"name":"shop"},"subject":{"agentID":"a"}}}]}""",
    "litdash": """\
HEAD
status:
  note: |
    text
    ---x
    # not a comment
spec:
  serverRef: {name: shop}
  subject: {agentID: a}
""",
}
LAYOUTS = {name: text.replace("HEAD\n", HEAD) for name, text in LAYOUTS.items()}
LAYOUTS["cr"] = LAYOUTS["dashfirst"].replace("\n", "\r")
LAYOUTS["mixed"] = LAYOUTS["dashfirst"].replace("n}\n", "n}\r\n")


def rule(name: str, decision: str = "allow", trust: str = "") -> ToolRule:
    return ToolRule(name, decision, trust)


CHANGES: dict[str, Callable[[MCPAccessGrant], MCPAccessGrant | None]] = {
    "trust": lambda g: replace(g, max_trust="medium"),
    "default": lambda g: replace(g, max_trust="low"),
    "flag": lambda g: replace(g, disabled=True),
    "time": lambda g: replace(g, expires_at="2030-01-01T00:00:00Z"),
    "subject": lambda g: replace(g, subject=Subject(human_id="h")),
    "rules": lambda g: replace(g, tool_rules=(rule("b"), rule("c", "deny", "high"))),
    "no rules": lambda g: replace(g, tool_rules=()),
    "all": lambda g: replace(
        g,
        tool_rules=(rule("z"),),
        allowed_side_effects=("write",),
        policy_version="",
        disabled=True,
        subject=Subject("x", "y", "z"),
        max_trust="high",
        expires_at="2030-01-01T00:00:00Z",
    ),
    "deleted": lambda _: None,
}
REFUSED = {
    ("complex", "subject"),
    *((layout, change) for layout in ("dupanchor", "otheranchor") for change in CHANGES),
    *(("cr", change) for change in ("subject", "rules", "no rules", "all")),
    ("nest", "deleted"),
}  # few write so; what matters is that nothing is damaged


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_is_edited_or_refused(tmp_path: Path, layout: str, change: str) -> None:
    """The edit's answer is what stands there, other objects stay; or the error names the file."""
    file, store = tmp_path / "g.yaml", DirectoryStore(tmp_path)
    file.write_bytes(LAYOUTS[layout].encode())
    others = [grant for grant in store.grants() if grant.name != "g"]

    def changed(grant: MCPAccessGrant | None) -> MCPAccessGrant | None:
        assert grant is not None
        return CHANGES[change](grant)

    def edit() -> None:
        edited = store.edit(MCPAccessGrant, "n", "g", changed, before_write=lambda _old, _new: None)
        left = [] if edited.after is None else [edited.after.resource]
        assert DirectoryStore(tmp_path).grants() == left + others

    before = store.get(MCPAccessGrant, "n", "g").resource
    if (layout, change) in REFUSED and CHANGES[change](before) != before:
        with pytest.raises(Invalid, match=r"g\.yaml: .*; "):
            edit()
        assert file.read_bytes() == LAYOUTS[layout].encode()
    else:
        edit()
