"""The bank of concepts: what a token of Python text can be, each an exact predicate over characters.

Rule: one line or one small function a concept, in terms of benchmarks.planted.source; nothing is guessed from a model.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.source import Lexeme, Source, Span

Spans = Callable[[Source], Iterable[Span]]

N_JUDGED = 50
"""Concepts that figures are reported of; the others of the bank are for development."""


@dataclass(frozen=True, slots=True)
class Concept:
    """Something that characters of a document can be."""

    name: str
    spans: Spans
    blank: bool = False
    """Whether it is about white space; other concepts are about what is not."""


def token_mask(concept: Concept, source: Source, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n_tokens,) whether each token is of the concept: whether one of its characters that are not blank lies in one
    of the concept's spans; of a concept of white space, whether the token is blank and one of its characters does.

    offsets: (n_tokens, 2) characters [start, end) of each token.
    """
    steps = np.zeros(len(source.text) + 1, np.int32)
    for start, end in concept.spans(source):
        steps[start] += 1
        steps[max(start, end)] -= 1
    visible = _visible(source.text)
    within = (np.cumsum(steps)[:-1] > 0) & (visible != concept.blank)
    mask: NDArray[np.bool_] = _count(within, offsets) > 0
    return mask & (_count(visible, offsets) == 0) if concept.blank else mask


def _visible(text: str) -> NDArray[np.bool_]:
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return ~np.isin(codes, [ord(blank) for blank in " \t\n\r\f\v"])


def _count(characters: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of those characters each token holds."""
    total = np.concatenate([[0], np.cumsum(characters)])
    held: NDArray[np.int64] = total[offsets[:, 1]] - total[offsets[:, 0]]
    return held


# -- ways to say a concept --------------------------------------------------------------------------------------------


def _lexeme(test: Callable[[Lexeme], bool]) -> Spans:
    return lambda source: (each.span for each in source.code if test(each))


def _name(pattern: str) -> Spans:
    """Names in code, keywords aside."""
    matches = re.compile(pattern).fullmatch
    return _lexeme(lambda each: each.is_name and matches(each.text) is not None)


def _sign(signs: str) -> Spans:
    wanted = frozenset(signs.split())
    return _lexeme(lambda each: each.kind == "sign" and each.text in wanted)


def _after(*words: str, name: bool = True) -> Spans:
    """What follows those lexemes in code; by default only where it is a name."""

    def spans(source: Source) -> Iterator[Span]:
        n = len(words)
        for place in range(n, len(source.code)):
            before, each = source.code[place - n : place], source.code[place]
            here = all(one.kind != "string" and one.text == word for one, word in zip(before, words, strict=True))
            if here and not before[-1].closes and (each.is_name or not name):
                yield each.span

    return spans


def _lines(*openers: str) -> Spans:
    return lambda source: ((line[0].start, line[-1].end) for line in source.statement_lines(openers))


def _nodes(pick: Callable[[ast.AST], Iterable[ast.AST | None]]) -> Spans:
    """Nodes of the syntax tree, picked from each node in turn."""
    return lambda source: (source.span(found) for node in source.nodes for found in pick(node) if found is not None)


def _within(part: Callable[[Source], Iterable[Span]], pattern: str) -> Spans:
    """What a pattern finds inside some spans; its group 1, where it has one."""
    found = re.compile(pattern, re.MULTILINE)

    def spans(source: Source) -> Iterator[Span]:
        for start, end in part(source):
            for match in found.finditer(source.text, start, end):
                yield match.span(1 if found.groups else 0)

    return spans


def _prose(pattern: str) -> Spans:
    return _within(lambda source: source.prose, pattern)


def _anywhere(pattern: str) -> Spans:
    return _within(lambda source: [(0, len(source.text))], pattern)


def _literals(letter: str = "") -> Spans:
    return lambda source: (each.inside for each in source.literals if letter in each.prefix)


def _in_strings(pattern: str) -> Spans:
    """In string literals that are neither docstrings nor raw."""
    return _within(lambda source: [each.inside for each in source.literals if "r" not in each.prefix], pattern)


# -- concepts that take more than a line ------------------------------------------------------------------------------


def _modules(source: Source) -> Iterator[Span]:
    """The dotted names of the modules that an import line names."""
    for line in source.statement_lines(("import", "from")):
        reading = True
        for before, each in zip(line, line[1:], strict=False):
            if each.text in ("import", "as"):
                if line[0].text == "from" and each.text == "import":
                    break
                reading = False
            elif each.text == ",":
                reading = True
            elif reading and (each.kind == "name" or before.text == "."):
                yield each.span


def _parameters(node: ast.AST) -> list[ast.arg]:
    if not isinstance(node, ast.arguments):
        return []
    several = [each for each in (node.vararg, node.kwarg) if each is not None]
    return [*node.posonlyargs, *node.args, *node.kwonlyargs, *several]


def _parameter_names(source: Source) -> Iterator[Span]:
    for node in source.nodes:
        for parameter in _parameters(node):
            if parameter.arg not in ("self", "cls"):
                start = source.span(parameter)[0]
                yield start, start + len(parameter.arg)


def _keyword_names(source: Source) -> Iterator[Span]:
    for node in source.nodes:
        if isinstance(node, ast.keyword) and node.arg is not None:
            start = source.span(node)[0]
            yield start, start + len(node.arg)


def _defaults(node: ast.AST) -> Sequence[ast.AST | None]:
    return [*node.defaults, *node.kw_defaults] if isinstance(node, ast.arguments) else []


def _annotations(node: ast.AST) -> Sequence[ast.AST | None]:
    if isinstance(node, ast.AnnAssign):
        return [node.annotation]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [node.returns]
    return [each.annotation for each in _parameters(node)]


def _loop_variables(node: ast.AST) -> list[ast.AST]:
    return [node.target] if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)) else []


def _checked_types(node: ast.AST) -> list[ast.expr]:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
    return node.args[1:2] if called and isinstance(node, ast.Call) else []


def _first_lines(source: Source) -> Iterator[Span]:
    for start, end in source.docstrings:
        first = re.compile(r"\s*(.*)").match(source.text, start, end)
        assert first is not None
        yield first.span(1)


def _percent(source: Source) -> Iterator[Span]:
    for before, each in zip(source.code, source.code[1:], strict=False):
        if before.kind == "string" and each.text == "%":
            yield each.span


def _functions(source: Source) -> Iterator[Span]:
    """Names of builtin functions, where they are not attributes or being defined."""
    for before, each in zip(source.code, source.code[1:], strict=False):
        if each.kind == "name" and each.text in _BUILTINS and before.text not in (".", "def"):
            yield each.span


_BUILTINS = frozenset(name for name in dir(builtins) if name.islower() and name.isalpha())
_EXCEPTIONS = frozenset(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException) and name != "EnvironmentError"
)
_WORD_VALUES = ("None", "True", "False")
_KEYWORDS = frozenset(keyword.kwlist).difference(_WORD_VALUES)

BANK: tuple[Concept, ...] = (
    # words of code
    Concept("keyword", _lexeme(lambda each: each.kind == "name" and each.text in _KEYWORDS)),
    Concept("None, True, False", _lexeme(lambda each: each.kind == "name" and each.text in _WORD_VALUES)),
    Concept("and, or, not", _lexeme(lambda each: each.kind == "name" and each.text in ("and", "or", "not"))),
    Concept("self", _name("self")),
    Concept("name after def", _after("def")),
    Concept("name after class", _after("class")),
    Concept("name after self.", _after("self", ".")),
    Concept("name after as", _after("as")),
    Concept("name after raise", _after("raise")),
    Concept("first of a returned value", _after("return", name=False)),
    Concept("exception name", _lexeme(lambda each: each.kind == "name" and each.text in _EXCEPTIONS)),
    Concept("builtin function", _functions),
    Concept("dunder name", _name(r"__\w+__")),
    Concept("underscore name", _name(r"_(?!_)\w+")),
    Concept("camelCase name", _name(r"[a-z]+(?:[A-Z][a-z0-9]*)+")),
    Concept("CapWords name", _name(r"(?:[A-Z][a-z0-9]+){2,}")),
    Concept("constant name", _name(r"[A-Z][A-Z0-9_]+")),
    Concept("snake_case name", _name(r"[a-z]+(?:_[a-z0-9]+)+")),
    Concept("parameter name", _parameter_names),
    Concept("keyword argument name", _keyword_names),
    Concept("module name", _modules),
    # signs of code
    Concept("opening bracket", _sign("( [ {")),
    Concept("closing bracket", _sign(") ] }")),
    Concept("comma", _sign(",")),
    Concept("dot", _sign(".")),
    Concept("block colon", _lexeme(lambda each: each.text == ":" and each.closes)),
    Concept("assignment sign", _lexeme(lambda each: each.text == "=" and each.depth == 0)),
    Concept("augmented assignment", _sign("+= -= *= /= //= %= **= |= &= ^= <<= >>= @=")),
    Concept("comparison sign", _sign("== != < > <= >=")),
    Concept("arithmetic sign", _sign("+ - * / // % **")),
    Concept("percent formatting", _percent),
    # parts of code
    Concept("import line", _lines("import", "from")),
    Concept("decorator line", _lines("@")),
    Concept("parameter default", _nodes(_defaults)),
    Concept("type annotation", _nodes(_annotations)),
    Concept("base class", _nodes(lambda node: node.bases if isinstance(node, ast.ClassDef) else [])),
    Concept("loop variable", _nodes(_loop_variables)),
    Concept("subscript", _nodes(lambda node: [node.slice] if isinstance(node, ast.Subscript) else [])),
    Concept("condition", _nodes(lambda node: [node.test] if isinstance(node, (ast.If, ast.While)) else [])),
    Concept("caught exception", _nodes(lambda node: [node.type] if isinstance(node, ast.ExceptHandler) else [])),
    Concept("lambda", _nodes(lambda node: [node] if isinstance(node, ast.Lambda) else [])),
    Concept("dict key", _nodes(lambda node: node.keys if isinstance(node, ast.Dict) else [])),
    Concept("isinstance type", _nodes(_checked_types)),
    # numbers and strings
    Concept("hexadecimal number", _lexeme(lambda each: each.kind == "number" and each.text[:2].lower() == "0x")),
    Concept("whole number", _lexeme(lambda each: each.kind == "number" and each.text.isdecimal())),
    Concept(
        "decimal fraction",
        _lexeme(lambda each: re.fullmatch(r"\d*\.\d*", each.text) is not None and each.kind == "number"),
    ),
    Concept("string", _literals()),
    Concept("bytes literal", _literals("b")),
    Concept("f-string", _literals("f")),
    Concept("placeholder in a string", _in_strings(r"%(?:\(\w+\))?[-+ #0]*[\d.*]*[sdrxXfgicu]|\{\w*(?:![rs])?\}")),
    Concept("escape in a string", _in_strings(r"\\(?:[abfnrtv\\'\"]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{1,3})")),
    # prose
    Concept("docstring", lambda source: source.docstrings),
    Concept("docstring's first line", _first_lines),
    Concept("comment", lambda source: source.comments),
    Concept("first word of a comment", _within(lambda source: source.comments, r"(?<=#)\s*([A-Za-z]+)")),
    Concept("capitalised word in prose", _prose(r"\b[A-Z][a-z]+\b")),
    Concept("-ing word in prose", _prose(r"\b[A-Za-z]{2,}ing\b")),
    Concept("article in prose", _prose(r"\b(?:[Tt]he|[Aa]n?)\b")),
    Concept("negation in prose", _prose(r"\b(?:[Nn]ot|[Nn]o|[Nn]ever|[Cc]annot|[Nn]one)\b|n't\b")),
    Concept("modal verb in prose", _prose(r"\b(?:must|should|may|can|will|would|could|might|shall)\b")),
    Concept("number in prose", _prose(r"\b\d+\b")),
    Concept("version number in prose", _prose(r"\b\d+\.\d+(?:\.\d+)*\b")),
    Concept("quoted word in prose", _prose(r"(?<!\w)(?:'\w+'|\"\w+\"|`+[^`\n]+`+)(?!\w)")),
    Concept("aside in prose", _prose(r"\([A-Za-z][^()\n]*\)")),
    Concept("end of a sentence", _prose(r"(?<=[a-z\)'])[.!?](?=\s+[A-Z]|\s*\Z)")),
    Concept("bullet", _prose(r"(?:^|(?<=#))[ \t]*([*\-•])(?=[ \t]+\S)")),
    Concept("section underline", _anywhere(r"^[ \t#]*([=\-~*]{4,})[ \t#]*$")),
    Concept("doctest prompt", _prose(r"^[ \t]*(>>>|\.\.\.)(?= |$)")),
    Concept("doctest line", _prose(r"^[ \t]*>>> (.*)$")),
    # anywhere
    Concept("all-caps word", _anywhere(r"\b[A-Z]{2,}\b")),
    Concept("URL", _anywhere(r"\b(?:https?|ftp)://[^\s<>\"')]+")),
    Concept("file name", _anywhere(r"\b[\w/]+\.(?:py|txt|c|h|cfg|html|xml|exe|zip|rst)\b")),
    # white space
    Concept("indentation", _anywhere(r"^[ \t]+(?=\S)"), blank=True),
    Concept("blank line", _anywhere(r"^[ \t]*\n"), blank=True),
)


def _by_hash(concept: Concept) -> bytes:
    return hashlib.blake2b(concept.name.encode(), person=b"planted").digest()


JUDGED = frozenset(concept.name for concept in sorted(BANK, key=_by_hash)[:N_JUDGED])
"""Names of the concepts that figures are reported of: a hash of the name chose them, before any was ranked."""
