"""Expressions over predicates, as JSON: what labels carry for a program to check.

    {"is": "code.after_def"}                 a predicate of the bank
    {"token": ["ing", " the"]}               the token's text, blanks included, is one of these
    {"sequence": [["(", "self"]]}            it is the last of these tokens, and the others stand before it, in order
    {"word": ["return", "HTTP"]}             it is a piece of one of these words, of letters alone
    {"begins": ["re"]}  {"ends": ["ing"]}    it is a piece of a longer word that begins, or ends, so; case aside
    {"follows": ["the"]}                     it is a piece of the word after one of these
    {"within": ["encodings/"]}               its document's name begins with one of these
    {"before": E}  {"after": E}              E holds of the token before it, or after it, in its piece of a document
    {"all": [E, ...]}  {"any": [E, ...]}  {"not": E}

Rule: an expression is data. Strangers' ones are checked whole, and limited in depth and size, before anything is
worked out.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from featuredb.errors import BadInput, nearest
from featuredb.predicates.bank import BANK
from featuredb.visible import visible

Expression = dict[str, Any]

MAX_DEPTH = 6
"""Operators inside one another."""

MAX_PARTS = 64
"""Operators in all."""

MAX_STRINGS = 256
"""Tokens, words or documents in one list."""

MAX_SEQUENCE = 8
"""Tokens in one sequence."""

MAX_LENGTH = 200
"""Characters of one of them."""

N_SHOWN = 5
"""Tokens or words that a description names."""

LISTS = ("token", "word", "begins", "ends", "follows", "within")
INNER = ("before", "after", "not")
JOINS = ("all", "any")
OPERATORS = ("is", *LISTS, "sequence", *INNER, *JOINS)


def check(expression: object) -> Expression:
    """The expression itself, in plain lists and dicts. Raises BadInput, saying where, for what is none."""
    return _Check().expression(expression, "predicate", MAX_DEPTH)


class _Check:
    """Goes through one expression, counting its parts."""

    def __init__(self) -> None:
        self._left = MAX_PARTS

    def expression(self, value: object, where: str, depth: int) -> Expression:
        if not isinstance(value, Mapping) or len(value) != 1:
            hint = 'write {"is": "group.name"}, for example'
            raise BadInput(f"{where} is no expression: {_short(value)}", hint=hint)
        operator, operand = parts(value)
        self._left -= 1
        if depth == 0 or self._left < 0:
            raise BadInput(f"{where} is too large", hint=f"at most {MAX_DEPTH} deep, of {MAX_PARTS} parts")
        if not isinstance(operator, str) or operator not in OPERATORS:
            raise BadInput(f"{where}: no operator {_short(operator)}", hint=nearest(str(operator), OPERATORS))
        where = f"{where}.{operator}"
        if operator == "is":
            return {operator: _predicate(operand, where)}
        if operator == "sequence":
            return {operator: _sequences(operand, where)}
        if operator in LISTS:
            return {operator: _strings(operand, where, MAX_STRINGS)}
        if operator in INNER:
            return {operator: self.expression(operand, where, depth - 1)}
        found = enumerate(_list(operand, where, MAX_PARTS))
        return {operator: [self.expression(part, f"{where}[{i}]", depth - 1) for i, part in found]}


def _predicate(value: object, where: str) -> str:
    if not isinstance(value, str) or value not in BANK:
        hint = nearest(str(value), BANK, otherwise='{"is": "case.upper"} is one')
        raise BadInput(f"{where}: no predicate {_short(value)}", hint=hint)
    return value


def _list(value: object, where: str, most: int) -> Sequence[object]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not 0 < len(value) <= most:
        raise BadInput(f"{where} is no list of 1 to {most} things: {_short(value)}")
    return value


def _strings(value: object, where: str, most: int) -> list[str]:
    found = []
    for text in _list(value, where, most):
        if not isinstance(text, str) or not 0 < len(text) <= MAX_LENGTH:
            raise BadInput(f"{where}: {_short(text)} is no text of 1 to {MAX_LENGTH} characters")
        found.append(text)
    return found


def _sequences(value: object, where: str) -> list[list[str]]:
    found = enumerate(_list(value, where, MAX_STRINGS))
    return [_strings(sequence, f"{where}[{i}]", MAX_SEQUENCE) for i, sequence in found]


def _short(value: object) -> str:
    shown = visible(reprlib.repr(value))
    return shown if len(shown) <= 60 else shown[:57] + "..."


def parts(expression: Mapping[Any, Any]) -> tuple[Any, Any]:
    """An expression's operator, and what it is applied to."""
    return next(iter(expression.items()))


def describe(expression: Expression) -> str:
    """What an expression says, in a few words of English that stand alone: "digits, in a comment"."""
    return _noun(check(expression))


def _noun(expression: Expression) -> str:
    """The tokens it holds of."""
    operator, operand = parts(expression)
    if operator == "is":
        return BANK[operand].noun
    if operator == "any":
        return " or ".join(dict.fromkeys(_noun(part) for part in _merged(operand)))
    if operator == "all":
        head, *rest = _led(operand)
        return ", ".join([_noun(head), *(_when(part) for part in rest)])
    if operator in ("token", "word"):
        return f"the {counted(operator, operand)} {quoted(operand)}"
    if operator == "sequence":
        return sequences(operand)
    if operator in ("begins", "ends"):
        return f"words that {operator[:-1]} with {quoted(operand)}"
    return f"{'words' if operator == 'follows' else 'tokens'} {_when(expression)}"


def _when(expression: Expression) -> str:
    """What narrows other tokens down to those it holds of."""
    operator, operand = parts(expression)
    if operator == "is":
        return BANK[operand].when
    if operator == "not":
        return f"not {_when(operand)}"
    if operator in JOINS:
        joint = " or " if operator == "any" else " and "
        return joint.join(dict.fromkeys(_when(part) for part in _merged(operand)))
    if operator in ("before", "after"):
        inner, said = parts(operand)
        side = "after" if operator == "before" else "before"
        return f"{side} {quoted(said) if inner in ('token', 'word') else _noun(operand)}"
    if operator == "follows":
        return f"after {quoted(operand)}"
    if operator in ("begins", "ends"):
        return f"in words that {operator[:-1]} with {quoted(operand)}"
    if operator == "within":
        return f"in {' or '.join(visible(text) for text in operand[:N_SHOWN])}"
    return f"on {_noun(expression)}"


def counted(noun: str, texts: Sequence[str]) -> str:
    """A noun before some texts that are then listed: "word", "tokens"."""
    return noun if len(set(map(quote, texts))) == 1 else f"{noun}s"


def sequences(found: Sequence[Sequence[str]], n: int = N_SHOWN) -> str:
    """What sequences say: some tokens after one, one after some, or the ends of some texts."""
    last = list(dict.fromkeys(each[-1] for each in found))
    first = list(dict.fromkeys("".join(each[:-1]) for each in found))
    if min(map(len, found)) > 1 and (len(last) == 1 or len(first) == 1):
        return f"{quoted(last, n)} after {quoted(first, n)}"
    return f"the end of {quoted([''.join(each) for each in found], n)}"


def _led(conjunction: Sequence[Expression]) -> list[Expression]:
    """The parts of a conjunction, one that says what a token is before those that say where it stands."""

    def rank(part: Expression) -> int:
        operator, operand = parts(part)
        if operator in ("token", "word", "sequence", "begins", "ends"):
            return 0
        if operator == "is":
            return 2 if BANK[operand].wide else 1
        return 1 if operator == "any" and all(rank(each) <= 1 for each in operand) else 3

    return sorted(conjunction, key=rank)


def _merged(joined: Sequence[Expression]) -> list[Expression]:
    """The parts of a disjunction, its lists of tokens, and of words, taken together."""
    merged: list[Expression] = []
    lists: dict[str, list[str]] = {}
    for part in joined:
        operator, operand = parts(part)
        if operator in ("token", "word"):
            if operator not in lists:
                lists[operator] = []
                merged.append({operator: lists[operator]})
            lists[operator] += operand
        else:
            merged.append(part)
    return merged


def quoted(texts: Sequence[str], n: int = N_SHOWN) -> str:
    """The first texts, in quotes, and how many more there are; those that differ in spaces alone come once."""
    shown = list(dict.fromkeys(map(quote, texts)))
    if len(shown) <= n + 1:
        return ", ".join(shown)
    return f"{', '.join(shown[:n])} and {len(shown) - n} more"


def quote(text: str) -> str:
    """One token's text for a reader: spaces around it left out, white space and what cannot be seen made visible."""
    inner = text.strip(" ")
    shown = visible(inner) if inner else "·" * len(text)
    mark = "'" if '"' in shown else '"'
    return f"{mark}{shown}{mark}"
