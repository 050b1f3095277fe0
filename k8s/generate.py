"""Write `k8s/crds/` from the tables in `extauthz/core/schema.py`: `python -m k8s.generate`."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from extauthz.core import rules
from extauthz.core.model import API_VERSION
from extauthz.core.rules import MOST_SHOWN, Rule
from extauthz.core.schema import KINDS
from extauthz.core.shapes import Flag, Foreign, Items, Labels, Prose, Record, Shape, Text

FOLDER: Final = Path(__file__).parent / "crds"
HEADER: Final = "# Written by `make generate` from extauthz/core/schema.py: change it there.\n"
GROUP, _, VERSION = API_VERSION.partition("/")

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. Args: is_wide: shown with `--output wide` alone."""

    name: str
    path: str
    type: str = "string"
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind is named and shown.

    Args:
        selectable: paths below `spec` for `--field-selector`.
        status: members of its status beside conditions.
    """

    name: str
    plural: str
    short: tuple[str, ...]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...]
    status: Mapping[str, Schema] = field(default_factory=dict)


def _condition(name: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].status'


_AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
_WHO: Final = (
    Column("Server", ".spec.serverRef.name"),
    Column("Human", ".spec.subject.humanID"),
    Column("Agent", ".spec.subject.agentID"),
    Column("Team", ".spec.subject.teamID"),
)
_STANDING: Final = (
    Column("Expires", ".spec.expiresAt"),
    Column("Accepted", _condition("Accepted"), is_wide=True),
    Column("Enforced", _condition("Enforced")),
    _AGE,
)
_BOUND: Final = (
    *("serverRef.name", "serverRef.namespace"),
    *("subject.humanID", "subject.agentID", "subject.teamID"),
)


def _told(kind: str, doc: str) -> Schema:
    return {"type": kind, "description": doc}


_POLICY_STATUS: Final = _told("object", "The policy document, and where it runs.") | {
    "properties": {
        "revision": _told("string", "Its content digest, as events and sidecars name it."),
        "shortRevision": _told("string", "The beginning of the revision."),
        "connected": _told("integer", "Sidecars that are connected."),
        "enforcing": _told("integer", "Those of them that run this revision."),
        "sidecars": _told("string", "Both, like 2/3."),
    }
}
_READY: Final = ("deployment", "service", "ingress", "gateway", "policy", "canary")
_SERVER_STATUS: Final = {
    "policy": _POLICY_STATUS,
    **{f"{name}Ready": _told("boolean", "mcp-runtime's.") for name in _READY},
}
_TABLE: Final = (
    Kind(
        "MCPServer",
        "mcpservers",
        ("mcps",),
        (
            Column("Team", ".spec.teamID", is_wide=True),
            Column("Mode", ".spec.policy.mode", is_wide=True),
            Column("Phase", ".status.phase"),
            Column("Policy", ".status.policyReady", "boolean"),
            Column("Gateway", ".status.gatewayReady", "boolean"),
            Column("Ready", ".status.deploymentReady", "boolean"),
            Column("Sidecars", ".status.policy.sidecars"),
            Column("Revision", ".status.policy.shortRevision"),
            Column("Accepted", _condition("Accepted"), is_wide=True),
            _AGE,
        ),
        ("teamID",),
        _SERVER_STATUS,
    ),
    Kind(
        "MCPAccessGrant",
        "mcpaccessgrants",
        ("mcpg", "mcpgrant"),
        (
            *_WHO,
            Column("Trust", ".spec.maxTrust"),
            Column("Disabled", ".spec.disabled", "boolean"),
            *_STANDING,
        ),
        (*_BOUND, "disabled"),
    ),
    Kind(
        "MCPAgentSession",
        "mcpagentsessions",
        ("mcpsess", "mcpsession"),
        (
            *_WHO,
            Column("Trust", ".spec.consentedTrust"),
            Column("Revoked", ".spec.revoked", "boolean"),
            *_STANDING,
        ),
        (*_BOUND, "revoked"),
    ),
)


def definitions() -> Iterator[tuple[str, str]]:
    """File name and text of each custom resource definition."""
    for kind in _TABLE:
        text = yaml.safe_dump(_definition(kind), sort_keys=False, width=100, allow_unicode=True)
        yield f"{kind.plural}.yaml", HEADER + text


def generate(folder: Path) -> None:
    """Write them all into `folder`."""
    for name, text in definitions():
        (folder / name).write_text(text)


def _definition(kind: Kind) -> Schema:
    record = KINDS[kind.name]
    status = _told("object", "What was made of it.") | {
        "properties": {**_STATUS, **kind.status},
        "x-kubernetes-preserve-unknown-fields": True,
    }
    has_required = any(shape.required for shape in record.members.values())
    root = _told("object", record.doc) | {
        **({"required": ["spec"]} if has_required else {}),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _record(record),
            "status": status,
        },
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": f".spec.{path}"} for path in kind.selectable],
        "additionalPrinterColumns": [_column(each) for each in kind.columns],
    }
    names = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "shortNames": list(kind.short),
        "categories": ["mcp"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "mcp-sentinel"},
        },
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _column(column: Column) -> Schema:
    told: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return told | ({"priority": 1} if column.is_wide else {})


def _shape(shape: Shape) -> Schema:  # noqa: PLR0911
    match shape:
        case Text():
            return _text(shape)
        case Prose():
            return _told("string", shape.doc)
        case Flag():
            return _told("boolean", shape.doc) | ({"default": False} if shape.is_stored else {})
        case Labels():
            return _told("object", shape.doc) | {"additionalProperties": {"type": "string"}}
        case Foreign():
            return {"description": shape.doc, "x-kubernetes-preserve-unknown-fields": True}
        case Record():
            return _record(shape)
        case Items():
            told: Schema = {"items": _shape(shape.item), "maxItems": shape.most}
            if shape.key:
                told |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [shape.key]}
            return _told("array", shape.doc) | told | _validations(shape.rules)


def _text(text: Text) -> Schema:
    told = _told("string", text.doc)
    if text.default:
        told["default"] = text.default
    if text.choices:
        return told | {"enum": list(text.choices)}
    if text.required or text.rule in {rules.CIDR, rules.KUBERNETES_NAME}:
        told["minLength"] = 1
    extra = (text.rule,) if text.rule else ()
    return told | {"maxLength": text.most} | _validations((rules.NO_SPACE, *extra))


def _record(record: Record) -> Schema:
    told = _told("object", record.doc)
    if required := [name for name, shape in record.members.items() if shape.required]:
        told["required"] = required
    told["properties"] = {name: _shape(shape) for name, shape in record.members.items()}
    if record.is_open:
        told["x-kubernetes-preserve-unknown-fields"] = True
    return told | _validations(record.rules)


def _validations(found: tuple[Rule, ...]) -> Schema:
    return {"x-kubernetes-validations": [_validation(rule) for rule in found]} if found else {}


def _validation(rule: Rule) -> Schema:
    """`message` stands in where the expression cannot: for values with line breaks."""
    told: Schema = {"rule": rule.cel, "message": rule.sentence.replace("{}", "…")}
    if rule.sees_old:
        told["optionalOldSelf"] = True
    if rule.values:
        words = rule.sentence.replace("{}", "%s")
        told["messageExpression"] = f"'{words}'.format([{', '.join(map(_shown, rule.values))}])"
    return told


def _shown(value: str) -> str:
    """At most so much of it; the others are names of tools, which are short."""
    is_long = value == "self"
    return (
        f"{value}.size() > {MOST_SHOWN} ? {value}.substring(0, {MOST_SHOWN}) : {value}"
        if is_long
        else value
    )


_STATUS: Final[Mapping[str, Schema]] = {
    "phase": _told("string", "In one word."),
    "message": _told("string", "In one sentence."),
    "observedGeneration": _told("integer", "The generation that the rest speaks of."),
    "conditions": _told("array", "What holds of it.")
    | {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status"],
            "properties": {
                "type": {"type": "string", "maxLength": 316},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {"type": "integer"},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "reason": {"type": "string", "maxLength": 1024},
                "message": {"type": "string", "maxLength": 32768},
            },
        },
    },
}


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
