"""Values as people read them: times, numbers with units. Jinja escapes what comes out."""

from typing import Final

from markupsafe import Markup

_THOUSAND: Final = 1000.0
UNKNOWN: Final = "\N{EN DASH}"


def time(text: str) -> Markup:
    """An instant in UTC; the script shows it in the viewer's zone, with UTC on hover."""
    if not text:
        return Markup("{}").format(UNKNOWN)
    short = text[:19].replace("T", " ")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(text, short, short)


def number(value: object) -> str:
    """Thousands apart; a dash for what is not known."""
    return f"{value:,}" if isinstance(value, int | float) else UNKNOWN


def milliseconds(value: object) -> str:
    """With a unit that reads well."""
    if not isinstance(value, int | float):
        return UNKNOWN
    if value >= 10 * _THOUSAND:
        return f"{value / _THOUSAND:.0f} s"
    if value >= _THOUSAND:
        return f"{value / _THOUSAND:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def duration(seconds: float) -> str:
    """The two greatest units, such as `3 d 4 h`."""
    rest, told = int(seconds), list[str]()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not told):
            told.append(f"{count} {unit}")
    return " ".join(told[:2])
