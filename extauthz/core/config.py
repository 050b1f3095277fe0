"""Settings: a frozen dataclass whose fields are a table of (names, default, help).

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Settings:
        poll_seconds: float = setting("POLL_SECONDS", default=5.0, read=number(0.1), help="…")

    settings = load(Settings, os.environ, read_file)

Nothing here touches the environment or the disk: both are passed in.
"""

import dataclasses
import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from extauthz.core.errors import Invalid

T = TypeVar("T")
_SLOT: Final = "setting"
_REQUIRED: Final = object()
_HIDDEN: Final = "(hidden)"
_CREDENTIALS: Final = re.compile(r"//.*@")
UNIX: Final = "unix:"
_MOST_SOCKET_PATH_BYTES: Final = 103  # what the kernel takes, less a suffix (nativeserver.py)


def show(value: Any) -> str:
    """A value as one would write it in the environment."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple | frozenset):
        return ",".join(show(item) for item in value)
    return str(value)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    Args:
        names: environment names, the first is the one to use, the others are aliases.
        file_names: names of settings that hold the path of a file with the value instead.
        default: the value when none is set, already read; `None` means unset where allowed.
        required: true where there is no default.
        help: one sentence for the reader of docs/settings.md.
        read: from text to value; raises Invalid without a field.
        secret: never shown, in no error either.
        write: from value to text, such as `read` reads.
    """

    names: tuple[str, ...]
    file_names: tuple[str, ...]
    default: Any
    required: bool
    help: str
    read: Callable[[str], Any]
    secret: bool
    write: Callable[[Any], str]

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def default_text(self) -> str:
        """The default as one would write it; empty where unset or required."""
        return "" if self.required else self.write(self.default)


def text(value: str) -> str:
    """Any text, taken as it stands."""
    return value


def setting(
    *names: str,
    help: str,
    default: Any = _REQUIRED,
    read: Callable[[str], Any] = text,
    secret: bool = False,
    write: Callable[[Any], str] = show,
    files: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that is a setting; every MCP_SENTINEL_ name has its older alias.

    Args: as `Setting`; without a default the setting is required. `files` are file_names.
    """
    required = default is _REQUIRED
    row = Setting(
        names=_with_older(names),
        file_names=_with_older(files),
        default=None if required else default,
        required=required,
        help=help,
        read=read,
        secret=secret,
        write=write,
    )
    if required:
        return dataclasses.field(metadata={_SLOT: row})
    return dataclasses.field(default=default, metadata={_SLOT: row}, repr=not secret)


def _with_older(names: tuple[str, ...]) -> tuple[str, ...]:
    pairs = ((name, name.replace("MCP_SENTINEL_", "MCP_ANALYTICS_", 1)) for name in names)
    return tuple(dict.fromkeys(name for pair in pairs for name in pair))


def table(settings: Any) -> dict[str, Setting]:
    """Rows by field name, of a settings class or of one of its values."""
    return {f.name: f.metadata[_SLOT] for f in dataclasses.fields(settings) if _SLOT in f.metadata}


def load(
    kind: type[T], environ: Mapping[str, str], read_file: Callable[[str], str] | None = None
) -> T:
    """Read every setting of `kind` from an environment. A blank value counts as unset.

    Args:
        kind: the dataclass.
        environ: names to values.
        read_file: from path to text, for settings that may stand in a file.

    Raises:
        Invalid: naming the setting, its value (unless secret) and the mend.
    """
    values = {
        field: value
        for field, row in table(kind).items()
        if (value := _value(row, environ, read_file)) is not _REQUIRED
    }
    return kind(**values)


def _value(row: Setting, environ: Mapping[str, str], read_file: Callable[[str], str] | None) -> Any:
    name = next((n for n in row.names if environ.get(n, "").strip()), "")
    file_name = next((n for n in row.file_names if environ.get(n, "").strip()), "")
    if name and file_name:
        raise Invalid(name, f"is set, and `{file_name}` too", "set one of the two")
    if name:
        return _read(row, name, environ[name].strip())
    if file_name and read_file is not None:
        path = environ[file_name].strip()
        try:
            content = read_file(path).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise Invalid(
                file_name, f"`{path}` cannot be read ({why})", "name a readable text file"
            ) from error
        if not content:
            raise Invalid(file_name, f"`{path}` is empty", "write the value into the file")
        return _read(row, file_name, content)
    if row.required:
        raise Invalid(row.name, "is not set", f"set it: {row.help}")
    return _REQUIRED


def _read(row: Setting, name: str, value: str) -> Any:
    try:
        return row.read(value)
    except Invalid as error:
        shown = _HIDDEN if row.secret else f"`{_CREDENTIALS.sub(f'//{_HIDDEN}@', value[:200])}`"
        raise Invalid(name, f"{shown} {error.problem}", error.mend) from None


def changed(settings: Any) -> list[str]:
    """What differs from the defaults, one `NAME=value` each, secrets hidden."""
    lines = []
    for field, row in table(settings).items():
        value = getattr(settings, field)
        if row.required or value != row.default:
            lines.append(f"{row.name}={_HIDDEN if row.secret else row.write(value)}")
    return lines


# Readers: from text to value. Their Invalid says what is wrong; `load` adds name and value.


def whole(least: int = 0, most: int | None = None) -> Callable[[str], int]:
    """A whole number in [least, most]."""

    def read(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise Invalid("", "is not a whole number", f"write one like {max(least, 1)}")
        number_read = int(value)
        _check_range(number_read, least, most)
        return number_read

    return read


def number(least: float = 0, most: float | None = None) -> Callable[[str], float]:
    """A finite decimal number in [least, most]."""

    def read(value: str) -> float:
        try:
            number_read = float(value)
        except ValueError:
            number_read = math.nan
        if not math.isfinite(number_read):
            raise Invalid("", "is not a number", "write digits alone, without a unit")
        _check_range(number_read, least, most)
        return number_read

    return read


def _check_range(value: float, least: float, most: float | None) -> None:
    if value < least:
        raise Invalid("", "is too small", f"set at least {show(least)}")
    if most is not None and value > most:
        raise Invalid("", "is too large", f"set at most {show(most)}")


def flag(value: str) -> bool:
    """`true` or `false` (also `1`, `0`)."""
    match value.lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
    raise Invalid("", "is neither true nor false", "write `true` or `false`")


def one_of(*choices: str) -> Callable[[str], str]:
    """One of a few words, in any case; returned as listed."""
    by_word = {choice.lower(): choice for choice in choices}

    def read(value: str) -> str:
        if value.lower() not in by_word:
            raise Invalid("", "is not one of the choices", f"set one of {', '.join(choices)}")
        return by_word[value.lower()]

    return read


def comma_list(value: str) -> tuple[str, ...]:
    """Comma-separated words; blanks around them and empty ones are dropped."""
    return tuple(word for part in value.split(",") if (word := part.strip()))


def http_url(value: str) -> str:
    """An absolute http or https URL without credentials."""
    mend = "write it like http://127.0.0.1:8081/events"
    try:
        parts = urlsplit(value)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise Invalid("", "is not a URL", mend) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_fine:
        raise Invalid("", "is not an http or https URL", mend)
    if parts.username is not None:
        raise Invalid("", "holds credentials", "take them out of the URL")
    return value


def listener(value: str) -> str:
    """`unix:PATH`, or HOST:PORT with an IP address.

    Raises:
        Invalid: it is neither.
    """
    if value.startswith(UNIX):
        path = value.removeprefix(UNIX)
        if not path.lstrip("/"):
            raise Invalid("", "names no socket file", "write it like unix:/run/check.sock")
        if len(path.encode()) > _MOST_SOCKET_PATH_BYTES:
            mend = "use a shorter path, or one relative to the working folder"
            raise Invalid("", f"is longer than {_MOST_SOCKET_PATH_BYTES} bytes", mend)
        return value
    host, _, port = value.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        whole(0, 65535)(port)
    except (ValueError, Invalid):
        mend = "write it like unix:/run/check.sock or 127.0.0.1:9001"
        raise Invalid("", "is not an address", mend) from None
    return value
