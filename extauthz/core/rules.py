"""What a schema has no words for: each rule in one sentence, and in CEL for the API server.

The Python of a rule stands where the field is read, and refuses with `refusal`; the custom
resource definitions carry `cel` and the same sentence. One corpus is tested against both.
"""

from dataclasses import dataclass
from typing import Final

from extauthz.core.errors import Invalid

MOST_SHOWN: Final = 128  # characters of a value in a sentence


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Args:
        problem: `{}` stands for a value.
        mend: what to do, as an imperative.
        cel: holds over `self`, the value where the rule stands (`oldSelf` before a change).
        values: CEL of what each `{}` of `problem` shows, as text.
        sees_old: `oldSelf` is optional in `cel`: absent for a new object.
    """

    problem: str
    mend: str
    cel: str
    values: tuple[str, ...] = ()
    sees_old: bool = False

    def refusal(self, where: str, *values: str) -> Invalid:
        """The error, at the path `where`."""
        shown = (value[:MOST_SHOWN] for value in values)
        return Invalid(where, self.problem.format(*shown), self.mend)

    @property
    def sentence(self) -> str:
        """`problem; mend`, as people read it after the path."""
        return f"{self.problem}; {self.mend}"


_TOO_HIGH: Final = (
    "i.decision == 'allow' && has(i.requiredTrust) && self.maxTrust != 'high' && "
    "(i.requiredTrust == 'high' || (i.requiredTrust == 'medium' && self.maxTrust == 'low'))"
)
_UNREACHED: Final = f"self.toolRules.filter(i, {_TOO_HIGH})[0]"
# Names are listed once, as `dyn`, and found by functions: comparing all objects with all took
# the API server seconds. Longer lists have its own words alone (`Items.key`).
_NAMES: Final = "[self.map(i, dyn(i.name))]"
_TWICE: Final = "names.indexOf(i.name) != names.lastIndexOf(i.name)"
_SECOND: Final = f"{_NAMES}.map(names, self.filter(i, {_TWICE})[0].name)[0]"
_MOST_COMPARED: Final = 100  # of 128 characters each, within what one rule may cost

# Texts. Empty ones are unset, and no rule of theirs is asked.
NO_SPACE: Final = Rule("has white space around it", "remove it", "self == self.trim()")
KUBERNETES_NAME: Final = Rule(
    "`{}` is not a Kubernetes name",
    "use lower-case letters and digits, `-` and `.` between them, at most 253",
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
    ("self",),
)
HEADER_NAME: Final = Rule(
    "`{}` is not a header name",
    "use letters, digits and `-` (no underscore: Envoy refuses those)",
    r"self == '' || self.matches('^[!#$%&\'*+.^`|~0-9A-Za-z-]+$')",
    ("self",),
)
CIDR: Final = Rule(
    "`{}` is not a CIDR block",
    "write it like 10.0.0.0/8, no bit set beyond the prefix",
    "isCIDR(self) && cidr(self) == cidr(self).masked()",
    ("self",),
)
INSTANT: Final = Rule(
    "`{}` is not an RFC 3339 time",
    "write it like 2026-12-31T23:59:59Z",
    "self == '' || (self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
    "([.][0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$') && "
    "!format.datetime().validate(self.replace(' ', 'T')).hasValue())",
    ("self",),
)
DURATION: Final = Rule(
    "`{}` is not a duration",
    "write it like 24h, 1h30m or 90s",
    "self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+([.][0-9]+)?s)?$')",
    ("self",),
)

# Objects and lists.
SUBJECT_NAMED: Final = Rule(
    "names nobody",
    "set humanID, agentID or teamID",
    " || ".join(f"(has(self.{n}) && self.{n} != '')" for n in ("humanID", "agentID", "teamID")),
)
TOOLS_DIFFER: Final = Rule(
    "second tool `{}`",
    "keep one of them",
    f"self.size() > {_MOST_COMPARED} || {_NAMES}.all(names, !self.exists(i, {_TWICE}))",
    (_SECOND,),
)
RULES_DIFFER: Final = Rule(
    "second rule for tool `{}`", "keep one of them", TOOLS_DIFFER.cel, TOOLS_DIFFER.values
)
EFFECTS_LISTED: Final = Rule(
    "is empty",
    "list some of read, write, destructive, or leave it out to allow all",
    "self.size() > 0",
)
LIFETIME_LASTS: Final = Rule(
    "is zero and enforced",
    "set a longer time",
    "!has(self.enforceMaxLifetime) || !self.enforceMaxLifetime || self.maxLifetime == '' || "
    "!self.maxLifetime.matches('^(0+h)?(0+m)?(0+([.]0+)?s)?$')",
)

# Writes: what is there already is read all the same (`extauthz.core.admission`).
TRUST_REACHED: Final = Rule(
    "never allows `{}`: the rule needs trust {}, and maxTrust is {}",
    "raise maxTrust, or remove the rule",
    f"oldSelf.hasValue() || !has(self.toolRules) || !self.toolRules.exists(i, {_TOO_HIGH})",
    (f"{_UNREACHED}.name", f"{_UNREACHED}.requiredTrust", "self.maxTrust"),
    sees_old=True,
)
# `namespace` is a word of CEL's own; a field of that name is written so.
_NEW, _OLD = "self.__namespace__", "oldSelf.__namespace__"
SERVER_STAYS: Final = Rule(
    "names another server than before",
    "create another object for that server, and delete this one",
    f"self.name == oldSelf.name && (!has({_NEW}) || !has({_OLD}) || "
    f"{_NEW} == '' || {_OLD} == '' || {_NEW} == {_OLD})",
)
SUBJECT_STAYS: Final = Rule(
    "names another subject than before",
    "create another session for that subject, and delete this one",
    "self == oldSelf",
)
