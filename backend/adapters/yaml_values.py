"""Values as a person would write them in YAML. Pure."""

import re
from typing import Any, Final

import yaml

_PLAIN: Final = re.compile(r"[A-Za-z/_][A-Za-z0-9 _./@:+-]*")


class _Dumper(yaml.SafeDumper):
    """Indents lists, and quotes what another reader of YAML may take for something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in {"y", "n"}
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if is_plain else '"')


_Dumper.add_representer(str, _represent)


def inline(value: Any) -> str:
    """In one line, and right within `{}` and `[]`, too."""
    return _dump([value], flow=True).strip()[1:-1]


def block(value: Any) -> str:
    """In lines of its own, the last one ended."""
    return _dump(value, flow=False)


def _dump(value: Any, *, flow: bool) -> str:
    return str(
        yaml.dump(
            value,
            Dumper=_Dumper,
            default_flow_style=flow,
            sort_keys=False,
            allow_unicode=True,
            width=float("inf"),
        )
    )


def indented(text: str, column: int) -> str:
    """Each line moved to the right."""
    return "".join(f"{' ' * column}{line}" for line in text.splitlines(keepends=True))
