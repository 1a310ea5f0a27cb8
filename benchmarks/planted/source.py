"""A document taken apart: code lexemes, strings, comments and prose as spans of characters, and its syntax tree.

Python's own tokenize and ast say what is what; nothing here knows of models or concepts.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Span = tuple[int, int]
"""Characters [start, end) of a document."""

_UNSEEN = {tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING, tokenize.TYPE_COMMENT}
_F_START, _F_END = getattr(tokenize, "FSTRING_START", -1), getattr(tokenize, "FSTRING_END", -1)


@dataclass(frozen=True, slots=True)
class Lexeme:
    """One name, number, sign or string of Python code."""

    kind: str
    """name, number, sign or string."""
    text: str
    start: int
    end: int
    depth: int
    """Brackets open around it; a bracket itself stands outside."""
    opens: bool
    """Whether it is the first of its statement line."""
    closes: bool
    """Whether it is the last of its statement line."""

    @property
    def span(self) -> Span:
        return self.start, self.end

    @property
    def is_name(self) -> bool:
        """A name that is no keyword."""
        return self.kind == "name" and not keyword.iskeyword(self.text)


@dataclass(frozen=True, slots=True)
class Literal:
    """A string literal."""

    prefix: str
    """Its letters before the quotes, in lower case."""
    whole: Span
    inside: Span
    """Between the quotes."""


@dataclass(frozen=True)
class Source:
    """A document and what its characters are; a text that is no code is one span of prose."""

    text: str
    code: tuple[Lexeme, ...] = ()
    literals: tuple[Literal, ...] = ()
    """Without docstrings."""
    docstrings: tuple[Span, ...] = ()
    """Between their quotes."""
    comments: tuple[Span, ...] = ()
    """After their number signs."""
    prose: tuple[Span, ...] = ()
    """Docstrings and comments, or all of a text that is no code."""
    nodes: tuple[ast.AST, ...] = ()
    """Every node of the syntax tree."""
    lines: tuple[str, ...] = field(default=(), repr=False)
    line_starts: tuple[int, ...] = field(default=(), repr=False)

    @staticmethod
    def of_prose(text: str) -> Source:
        return Source(text, prose=((0, len(text)),))

    @staticmethod
    def of_code(text: str) -> Source:
        """Raises SyntaxError for what this Python does not read as a module."""
        lines = tuple(io.StringIO(text))  # as Python's tokenizer has them: a form feed ends none
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))
        source = Source(text, lines=lines, line_starts=tuple(starts))
        nodes = tuple(ast.walk(ast.parse(text)))
        try:
            code, literals, comments = source._lexemes()
        except tokenize.TokenError as error:
            raise SyntaxError(str(error)) from error
        at = {node_span[0] for node in nodes if (node_span := source._docstring(node)) is not None}
        docstrings = tuple(each.inside for each in literals if each.whole[0] in at)
        kept = tuple(each for each in literals if each.whole[0] not in at)
        prose = tuple(sorted((*docstrings, *comments)))
        return Source(text, code, kept, docstrings, comments, prose, nodes, lines, tuple(starts))

    def span(self, node: ast.AST) -> Span:
        """Where a node of the tree that has a place stands."""
        return (
            self._offset(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            self._offset(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def statement_lines(self, opener: Iterable[str]) -> Iterator[tuple[Lexeme, ...]]:
        """The lexemes of every statement line that one of some words or signs opens."""
        openers, line = frozenset(opener), list[Lexeme]()
        for lexeme in self.code:
            line.append(lexeme)
            if lexeme.closes:
                if line[0].text in openers and line[0].kind != "string":
                    yield tuple(line)
                line = []

    def _docstring(self, node: ast.AST) -> Span | None:
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or not node.body:
            return None
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            return self.span(first.value)
        return None

    def _offset(self, line: int, column: int) -> int:
        """ast counts columns in bytes."""
        text = self.lines[line - 1]
        if not text.isascii():
            column = len(text.encode()[:column].decode())
        return self.line_starts[line - 1] + column

    def _lexemes(self) -> tuple[tuple[Lexeme, ...], tuple[Literal, ...], tuple[Span, ...]]:
        code, literals, comments = list[Lexeme](), list[Literal](), list[Span]()
        depth, opens, f_strings = 0, True, list[Span]()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            start = self.line_starts[token.start[0] - 1] + token.start[1]
            end = start + len(token.string)
            if token.type == tokenize.COMMENT:
                comments.append((start + 1, end))
            elif token.type == _F_START:
                f_strings.append((start, end))
            elif token.type == _F_END:
                whole, inside = (f_strings[-1][0], end), (f_strings[-1][1], start)
                opener = self.text[slice(*f_strings.pop())]
                if not f_strings:
                    literals.append(Literal(opener.rstrip("'\"").lower(), whole, inside))
                    code.append(Lexeme("string", self.text[slice(*whole)], *whole, depth, opens, False))
                    opens = False
            elif token.type == tokenize.NEWLINE:
                if code:
                    code[-1] = _closing(code[-1])
                opens = True
            elif not f_strings and token.type not in _UNSEEN:
                if token.type == tokenize.STRING:
                    literals.append(_literal(token.string, start))
                depth -= token.string in (")", "]", "}")
                code.append(Lexeme(_kind(token.type), token.string, start, end, depth, opens, False))
                depth += token.string in ("(", "[", "{")
                opens = False
        return tuple(code), tuple(literals), tuple(comments)


def _closing(lexeme: Lexeme) -> Lexeme:
    return Lexeme(lexeme.kind, lexeme.text, lexeme.start, lexeme.end, lexeme.depth, lexeme.opens, True)


def _kind(number: int) -> str:
    return {tokenize.NAME: "name", tokenize.NUMBER: "number", tokenize.STRING: "string"}.get(number, "sign")


def _literal(text: str, start: int) -> Literal:
    prefix = text[: min(text.index(quote) for quote in "'\"" if quote in text)]
    body = text[len(prefix) :]
    quotes = 3 if body[:3] in ("'''", '"""') and len(body) >= 6 else 1
    whole = (start, start + len(text))
    return Literal(prefix.lower(), whole, (start + len(prefix) + quotes, whole[1] - quotes))
