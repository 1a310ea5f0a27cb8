"""Sums of concepts as people write them, `a - 0.5*unit(b)`: read, and worked out on directions.

    sum     = product (("+" | "-") product)*
    product = signed (("*" | "/") signed)*
    signed  = "-" signed | value
    value   = number | name | `name` | "(" sum ")" | "unit" "(" sum ")" | "orth" "(" sum "," sum ")"

Rule: nothing is evaluated but this. A name may hold dots and dashes, so a minus has spaces around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import BadInput

LONGEST = 2000
DEEPEST = 50

Direction = NDArray[np.float64]
Value = float | dict[str, Direction]
"""A number, or a direction at each hook."""

_TOKEN = re.compile(
    r"\s*(?:`(?P<quoted>[^`]*)`"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![A-Za-z0-9._-])"
    r"|(?P<word>[A-Za-z0-9][A-Za-z0-9._-]*)"
    r"|(?P<mark>[-+*/(),]))"
)
_END = ("end", "")
Token = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an expression: a number, a name, or something done to other pieces."""

    kind: str
    """"number", "name", "negative", "unit", "orth", or one of + - * /."""
    text: str = ""
    parts: tuple[Part, ...] = ()


def parse(text: str) -> Part:
    """The expression that a text writes. Raises BadInput saying where it cannot be read."""
    if len(text) > LONGEST:
        raise BadInput(f"the expression has {len(text):,} characters", hint=f"at most {LONGEST:,} are read")
    return _Parser(text).whole()


def names(part: Part) -> list[str]:
    """The concepts it names, each once, in order."""
    found = [part.text] if part.kind == "name" else [name for each in part.parts for name in names(each)]
    return list(dict.fromkeys(found))


def work_out(part: Part, concepts: Mapping[str, dict[str, Direction]]) -> Value:
    """Its value, the concepts all given at the same hooks. Raises BadInput for what has none, such as a product of two
    concepts, a number beside a concept in a sum, or a division by zero.
    """
    if part.kind == "number":
        return float(part.text)
    if part.kind == "name":
        return concepts[part.text]
    values = [work_out(each, concepts) for each in part.parts]
    return _OPERATIONS[part.kind](*values)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def whole(self) -> Part:
        found = self._sum()
        if self._next != _END:
            raise self._unexpected()
        return found

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self, *marks: str) -> str | None:
        """The next mark where it is one of these, and past it."""
        kind, text = self._next
        if kind != "mark" or text not in marks:
            return None
        self._at += 1
        return text

    def _need(self, mark: str) -> None:
        if self._take(mark) is None:
            raise self._unexpected(f"a {mark!r} is missing")

    def _unexpected(self, why: str | None = None) -> BadInput:
        kind, text = self._next
        before = "ends too soon" if kind == "end" else f"cannot be read at {text!r}"
        return BadInput(
            f"{self._text!r} {before}", hint=why or "write it like a - 0.5*unit(b); a minus has spaces around it"
        )

    def _sum(self) -> Part:
        found = self._product()
        while mark := self._take("+", "-"):
            found = Part(mark, parts=(found, self._product()))
        return found

    def _product(self) -> Part:
        found = self._signed()
        while mark := self._take("*", "/"):
            found = Part(mark, parts=(found, self._signed()))
        return found

    def _signed(self) -> Part:
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadInput(f"{self._text[:40]!r}... is nested more than {DEEPEST} deep")
        found = Part("negative", parts=(self._signed(),)) if self._take("-") else self._value()
        self._depth -= 1
        return found

    def _value(self) -> Part:
        if self._take("("):
            found = self._sum()
            self._need(")")
            return found
        kind, text = self._next
        if kind not in ("number", "word", "quoted"):
            raise self._unexpected()
        self._at += 1
        if kind == "number":
            return Part("number", text)
        if kind == "word" and text in ("unit", "orth") and self._take("("):
            parts = [self._sum()]
            if text == "orth":
                self._need(",")
                parts.append(self._sum())
            self._need(")")
            return Part(text, parts=tuple(parts))
        return Part("name", text)


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None or match.lastgroup is None:
            rest = stripped[at:].lstrip()
            raise BadInput(
                f"{text!r} cannot be read at {rest[:20]!r}", hint="names with other signs stand in `backticks`"
            )
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return [*found, _END]


def _added(a: Value, b: Value, sign: float = 1.0) -> Value:
    if isinstance(a, float) and isinstance(b, float):
        return a + sign * b
    if isinstance(a, float) or isinstance(b, float):
        raise BadInput("a number cannot be added to a direction", hint="multiply a concept by it")
    return {hook: a[hook] + sign * b[hook] for hook in a}


def _times(a: Value, b: Value) -> Value:
    if isinstance(a, float) and isinstance(b, float):
        return a * b
    if isinstance(a, float):
        a, b = b, a
    if isinstance(a, float) or not isinstance(b, float):
        raise BadInput("two directions cannot be multiplied", hint="orth(a, b) takes b's part out of a")
    factor = b
    return {hook: factor * direction for hook, direction in a.items()}


def _divided(a: Value, b: Value) -> Value:
    if not isinstance(b, float):
        raise BadInput("nothing can be divided by a direction", hint="unit(a) divides a by its length")
    if b == 0:
        raise BadInput("the expression divides by 0")
    return a / b if isinstance(a, float) else {hook: direction / b for hook, direction in a.items()}


def _unit(a: Value) -> Value:
    directions = _directions(a, "unit")
    return {hook: direction / _length(direction, hook) for hook, direction in directions.items()}


def _orth(a: Value, b: Value) -> Value:
    ours, theirs = _directions(a, "orth"), _directions(b, "orth")
    left = {}
    for hook, direction in ours.items():
        along = theirs[hook] / _length(theirs[hook], hook)
        rest = direction - (direction @ along) * along
        # A direction less itself leaves rounding, which is none.
        left[hook] = rest if np.linalg.norm(rest) > 1e-7 * np.linalg.norm(direction) else np.zeros_like(rest)
    return left


def _directions(value: Value, function: str) -> dict[str, Direction]:
    if isinstance(value, float):
        raise BadInput(f"{function}() takes a direction, not the number {value:g}")
    return value


def _length(direction: Direction, hook: str) -> float:
    length = float(np.linalg.norm(direction))
    if length == 0:
        raise BadInput(f"a part of the expression is zero at {hook}, and has no direction there")
    return length


_OPERATIONS: dict[str, Callable[..., Value]] = {
    "+": _added,
    "-": lambda a, b: _added(a, b, -1.0),
    "*": _times,
    "/": _divided,
    "negative": lambda a: _times(-1.0, a),
    "unit": _unit,
    "orth": _orth,
}
