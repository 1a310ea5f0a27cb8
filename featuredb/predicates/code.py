"""Python source as arrays of lexemes: what stands beside each, which line and which brackets it stands in.

Rule: facts of grammar alone, for documents whose name ends in .py; which of them make a predicate is told elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featuredb.predicates import scan
from featuredb.predicates.text import Mask, Places, Text

FREE, CALL, PARAMETERS, BASES, GROUP, SUBSCRIPT, LIST, BRACE = range(8)
"""What the innermost open bracket is for; FREE where none is open. One that was opened before the piece is known by its
form alone: round ones are taken for calls, square ones for lists."""

_OPENERS = {"(": ")", "[": "]", "{": "}"}
_UNSEEN = {")": CALL, "]": LIST, "}": BRACE}
_NO_TARGET = frozenset(["case", "class", "def", "else", "finally", "lambda", "match", "try"])
_NO_CALL = frozenset(
    [
        "and",
        "as",
        "assert",
        "async",
        "await",
        "del",
        "elif",
        "else",
        "except",
        "for",
        "from",
        "global",
        "if",
        "import",
        "in",
        "is",
        "lambda",
        "nonlocal",
        "not",
        "or",
        "raise",
        "return",
        "try",
        "while",
        "with",
        "yield",
        "print",
    ]
)


@dataclass(frozen=True, slots=True)
class Literal:
    """A string literal."""

    prefix: str
    quotes: int
    """How many quotes open it: 1 or 3; 0 where it was opened before the piece."""
    mark: str
    """Its quote character; empty where the piece does not show it."""
    start: int
    end: int
    inside: tuple[int, int]
    docstring: bool


@dataclass
class _Columns:
    """The arrays of lexemes as they grow."""

    kind: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    string: list[int] = field(default_factory=list)
    piece: list[int] = field(default_factory=list)
    opener: list[int] = field(default_factory=list)
    inside: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    annotation: list[bool] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)
    literals: list[Literal] = field(default_factory=list)
    comments: list[tuple[int, int]] = field(default_factory=list)


class Code:
    """The m lexemes of all pieces of Python source, in order; comments and line ends are not among them."""

    def __init__(self, text: Text) -> None:
        passages = text.passages
        self.text = text
        columns = _Columns()
        self.pieces = [
            piece
            for piece, document in enumerate(passages.document.tolist())
            if passages.names[document].endswith((".py", ".pyi"))
        ]
        for piece in self.pieces:
            low, high = int(text.piece_start[piece]), int(text.piece_end[piece])
            whole = bool(passages.offset[piece] == 0)
            lexemes, begun = scan.scan(text.string, low, high, whole=whole)
            _Reader(columns, text.string, piece, whole).read(lexemes, begun)
        self.kind = np.array(columns.kind, np.int8)
        self.start: Places = np.array(columns.start, np.int64)
        self.end: Places = np.array(columns.end, np.int64)
        self.string = np.array(columns.string, np.int32)
        self.piece = np.array(columns.piece, np.int32)
        self.opener: Places = np.array(columns.opener, np.int64)
        """(m,) the first lexeme of each one's statement line, as far as the piece shows it."""
        self.inside = np.array(columns.inside, np.int8)
        self.depth = np.array(columns.depth, np.int32)
        """(m,) brackets open around each; a bracket itself stands outside."""
        self.annotation = np.array(columns.annotation, np.bool_)
        self.literals = columns.literals
        self.comments = columns.comments
        self._known = columns.known

    def tokens(self, lexemes: Mask) -> Mask:
        """(N,) whether each token lies on one of some lexemes. lexemes: (m,)."""
        return self.text.over(self.start[lexemes], self.end[lexemes])

    def is_(self, *strings: str) -> Mask:
        """(m,) whether each lexeme is one of some strings."""
        wanted = [self._known[string] for string in strings if string in self._known]
        found: Mask = np.isin(self.string, np.array(wanted, np.int32)) & (self.kind != scan.STRING)
        return found

    @cached_property
    def spelling(self) -> list[str]:
        """Each different lexeme's string, by number."""
        return list(self._known)

    @cached_property
    def name(self) -> Mask:
        found: Mask = self.kind == scan.NAME
        return found

    @cached_property
    def first(self) -> Mask:
        """(m,) whether each opens its statement line."""
        found: Mask = self.opener == np.arange(len(self.kind))
        return found

    @cached_property
    def last(self) -> Mask:
        """(m,) whether each closes its statement line; the last of a piece may be one that was cut off."""
        return np.append(self.first[1:], True) if len(self.kind) else self.first

    def before(self, marks: Mask, steps: int = 1) -> Mask:
        """(m,) whether the lexeme `steps` before each, in its own piece, is marked."""
        return _shifted(marks, self.piece, steps)

    def after(self, marks: Mask, steps: int = 1) -> Mask:
        """(m,) whether the lexeme `steps` after each, in its own piece, is marked."""
        return _shifted(marks[::-1], self.piece[::-1], steps)[::-1]

    def lines(self, *openers: str) -> Mask:
        """(m,) whether each lexeme's statement line opens with one of some words or signs."""
        if not len(self.opener):
            return np.zeros(0, np.bool_)
        opens = self.is_(*openers)
        if "async" not in openers:
            after = np.append(opens[1:], False) & self.is_("async")
            opens = opens | after
        found: Mask = opens[self.opener]
        return found


def _shifted(marks: Mask, piece: NDArray[np.int32], steps: int) -> Mask:
    moved = np.zeros(len(marks), np.bool_)
    moved[steps:] = marks[:-steps] & (piece[steps:] == piece[:-steps])
    return moved


class _Reader:
    """Goes through one piece's lexemes, with the brackets that are open."""

    def __init__(self, columns: _Columns, text: str, piece: int, whole: bool) -> None:
        self._columns = columns
        self._text = text
        self._piece = piece
        self._whole = whole
        self._open: list[tuple[int, bool]] = []
        """What each open bracket is for, and whether an annotation stood open around it."""
        self._annotating = False
        self._opener = -1
        self._line: list[str] = []
        """The strings of the statement line so far."""
        self._block = whole
        """Whether the line before opened a block, or there is none."""

    def read(self, lexemes: list[scan.Lexeme], begun: bool) -> None:
        self._open = [(kind, False) for kind in _unseen(self._text, lexemes)]
        for place, lexeme in enumerate(lexemes):
            if lexeme.kind == scan.LINE_END:
                self._end_line()
            elif lexeme.kind == scan.COMMENT:
                self._columns.comments.append((lexeme.start, lexeme.end))
            else:
                self._take(lexeme, begun and place == 0)

    def _end_line(self) -> None:
        if not self._open and self._opener >= 0:
            self._block = self._line[-1] == ":"
            self._opener, self._annotating, self._line = -1, False, []

    def _take(self, lexeme: scan.Lexeme, begun: bool) -> None:
        columns, string = self._columns, self._text[lexeme.start : lexeme.end]
        number = len(columns.kind)
        opens = self._opener < 0
        if opens:
            self._opener = number
            self._line = []
        if lexeme.kind == scan.STRING:
            self._literal(lexeme, opens, begun)
        self._line.append(string)
        sign = string if lexeme.kind == scan.SIGN else ""
        if sign in (")", "]", "}") and self._open:
            self._annotating = self._open.pop()[1]
        inside = self._open[-1][0] if self._open else FREE
        self._annotate(sign, inside)
        columns.kind.append(lexeme.kind)
        columns.start.append(lexeme.start)
        columns.end.append(lexeme.end)
        columns.string.append(columns.known.setdefault(string, len(columns.known)))
        columns.piece.append(self._piece)
        columns.opener.append(self._opener)
        columns.inside.append(inside)
        columns.depth.append(len(self._open))
        columns.annotation.append(self._annotating and sign not in (":", "->"))
        if sign in _OPENERS:
            self._open.append((self._purpose(sign), self._annotating))
        elif (sign == ":" and self._opens_annotation(inside)) or sign == "->":
            self._annotating = True

    def _annotate(self, sign: str, inside: int) -> None:
        """Ends an annotation at the sign after it."""
        if self._annotating and inside in (FREE, PARAMETERS) and (sign in ("=", ":") or (sign == "," and inside)):
            self._annotating = False

    def _opens_annotation(self, inside: int) -> bool:
        if inside == PARAMETERS:
            return True
        # `name: type` opens a line with a name; `else:` and its like close theirs, and open none with a dot or a call.
        return inside == FREE and self._is_target()

    def _is_target(self) -> bool:
        line = self._line[:-1]
        named = len(line) == 1 or (len(line) == 3 and line[1] == ".")
        return named and line[0] not in _NO_TARGET and line[0].isidentifier()

    def _purpose(self, sign: str) -> int:
        if sign == "{":
            return BRACE
        before = self._line[-2] if len(self._line) > 1 else ""
        closes = before[-1:] in (")", "]", "}", "'", '"')
        follows = closes or (before not in _NO_CALL and (before[-1:].isalnum() or before[-1:] == "_"))
        if sign == "[":
            return SUBSCRIPT if follows else LIST
        if len(self._line) > 2 and self._line[-3] in ("def", "class"):
            return PARAMETERS if self._line[-3] == "def" else BASES
        return CALL if follows else GROUP

    def _literal(self, lexeme: scan.Lexeme, opens: bool, begun: bool) -> None:
        prefix, quotes, start, end = scan.inside_string(self._text, lexeme, begun=begun)
        mark = self._text[start - 1] if quotes else self._text[end : end + 1]
        long = quotes == 3 or (begun and (self._text[end : end + 3] in ('"""', "'''") or end == lexeme.end))
        # A string that stands where the piece begins is taken for a docstring where it is long and closes its line.
        docstring = opens and not self._open and (self._block or begun) and (long or self._block)
        self._columns.literals.append(
            Literal(prefix, quotes, mark, lexeme.start, lexeme.end, (start, end), docstring and "f" not in prefix)
        )


def _unseen(text: str, lexemes: list[scan.Lexeme]) -> list[int]:
    """What the brackets are for that a piece closes without having opened them, the outermost first."""
    depth, found = 0, list[int]()
    for lexeme in lexemes:
        if lexeme.kind == scan.SIGN and lexeme.end == lexeme.start + 1:
            sign = text[lexeme.start]
            if sign in _OPENERS:
                depth += 1
            elif sign in _UNSEEN:
                if depth:
                    depth -= 1
                else:
                    found.append(_UNSEEN[sign])
    return found[::-1]
