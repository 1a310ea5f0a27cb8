"""Predicates of string literals in Python source: what kind they are of, and what stands inside."""

from __future__ import annotations

import re
from collections.abc import Callable

from featuredb.predicates import scan
from featuredb.predicates.code import CALL, Literal
from featuredb.predicates.predicate import Predicate
from featuredb.predicates.text import Mask
from featuredb.predicates.view import View


def _literals(name: str, noun: str, when: str, test: Callable[[Literal], bool], *, wide: bool = True) -> Predicate:
    """Of tokens inside string literals that pass a test; their quotes are not inside."""
    return Predicate(
        f"string.{name}",
        noun,
        when,
        lambda view: view.text.over_pairs(each.inside for each in view.code.literals if test(each)),
        wide=wide,
    )


def _quotes(opening: bool) -> Callable[[View], Mask]:
    def tokens(view: View) -> Mask:
        found = view.code.literals
        if opening:
            return view.text.over_pairs((each.inside[0] - each.quotes, each.inside[0]) for each in found)
        return view.text.over_pairs((each.inside[1], each.end) for each in found)

    return tokens


def _first_inside(view: View) -> Mask:
    found = [each.inside for each in view.code.literals if each.quotes and each.inside[1] > each.inside[0]]
    return view.text.over_pairs((start, start + 1) for start, _ in found)


def _first_lines(view: View) -> Mask:
    """First lines of docstrings whose beginning the piece shows."""
    string, pairs = view.text.string, list[tuple[int, int]]()
    for each in view.code.literals:
        if each.docstring and each.quotes:
            lead = re.compile(r"\s*").match(string, *each.inside)
            start = lead.end() if lead else each.inside[0]
            stop = string.find("\n", start, each.inside[1])
            pairs.append((start, each.inside[1] if stop < 0 else stop))
    return view.text.over_pairs(pairs)


def _within_strings(pattern: str, test: Callable[[Literal], bool]) -> Callable[[View], Mask]:
    """What a pattern finds inside literals that pass a test."""
    found = re.compile(pattern)

    def tokens(view: View) -> Mask:
        string = view.text.string
        inside = [each.inside for each in view.code.literals if test(each)]
        return view.text.over_pairs(match.span() for low, high in inside for match in found.finditer(string, low, high))

    return tokens


PREDICATES = (
    _literals("any", "string literals", "in a string", lambda each: not each.docstring),
    _literals("docstring", "docstrings", "in a docstring", lambda each: each.docstring),
    Predicate(
        "string.docstring_first", "first lines of docstrings", "in a docstring's first line", _first_lines, wide=True
    ),
    _literals(
        "single",
        "single-quoted strings",
        "in a single-quoted string",
        lambda each: each.mark == "'" and each.quotes < 3 and not each.docstring,
    ),
    _literals(
        "double",
        "double-quoted strings",
        "in a double-quoted string",
        lambda each: each.mark == '"' and each.quotes == 1 and not each.docstring,
    ),
    _literals(
        "triple",
        "triple-quoted strings that are no docstrings",
        "in a triple-quoted string",
        lambda each: each.quotes == 3 and not each.docstring,
    ),
    _literals("bytes", "bytes literals", "in a bytes literal", lambda each: "b" in each.prefix),
    _literals("raw", "raw strings", "in a raw string", lambda each: "r" in each.prefix),
    _literals("formatted", "f-strings", "in an f-string", lambda each: "f" in each.prefix),
    Predicate(
        "string.field",
        "fields of f-strings",
        "in an f-string's field",
        _within_strings(r"(?<!\{)\{[^{}\n]*\}", lambda each: "f" in each.prefix),
    ),
    Predicate(
        "string.placeholder",
        "placeholders in strings",
        "on a placeholder in a string",
        _within_strings(
            r"%(?:\(\w+\))?[-+ #0]*[\d.*]*[sdrxXfgicueEGoa]|\{\w*(?:![rsa])?(?::[^{}\n]*)?\}",
            lambda each: "f" not in each.prefix,
        ),
    ),
    Predicate(
        "string.escape",
        "escapes in strings",
        "on an escape in a string",
        _within_strings(
            r"\\(?:[abfnrtv\\'\"0\n]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{1,3})", lambda each: "r" not in each.prefix
        ),
    ),
    Predicate("string.opening", "opening quotes", "on an opening quote", _quotes(opening=True)),
    Predicate("string.closing", "closing quotes", "on a closing quote", _quotes(opening=False)),
    Predicate("string.first", "first tokens of strings", "first in a string", _first_inside, wide=True),
    Predicate(
        "string.argument",
        "strings as arguments",
        "in a string argument",
        lambda view: view.code.tokens((view.code.kind == scan.STRING) & (view.code.inside == CALL)),
        wide=True,
    ),
)
