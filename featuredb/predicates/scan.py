"""A tolerant reader of Python source that begins and ends anywhere: pieces of text in, lexemes out.

A piece from the middle of a file may begin inside a string or a comment, and inside brackets that it does not show. It
is read once for each place it may begin in, and the reading with the fewest slips is taken: two names side by side, a
string that its line does not close, a character that Python has no use for. Which reading is right a piece cannot
always tell. Brackets opened before it are known by those it closes; what kind they are is not.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass

NAME, NUMBER, SIGN, STRING, COMMENT, LINE_END = range(6)
"""Kinds of lexeme."""

ODD = 6
"""Of a lexeme that is no Python; kept out of what is returned."""

_TRIPLE = {'"': r'[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*', "'": r"[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*"}
_SINGLE = {'"': r'[^"\\\n]*(?:\\.[^"\\\n]*)*', "'": r"[^'\\\n]*(?:\\.[^'\\\n]*)*"}

_LEXEME = re.compile(
    rf"""
      (?P<name>[^\W\d]\w*(?!['"\w]))
    | (?P<comment>\#[^\n]*)
    | (?P<end>\n)
    | (?P<string>(?i:[rbuf]|[bf]r|r[bf])?(?:
          "{'""'}{_TRIPLE['"']}(?:"{'""'}|\Z)
        | '{"''"}{_TRIPLE["'"]}(?:'{"''"}|\Z)
        | "(?!""){_SINGLE['"']}(?:"|(?=\n)|\Z)
        | '(?!''){_SINGLE["'"]}(?:'|(?=\n)|\Z)))
    | (?P<number>(?:\d|\.\d)(?:[eE][+-]?\d|[\w.])*)
    | (?P<late>[^\W\d]\w*)
    | (?P<sign>\.\.\.|->|:=|\*\*=?|//=?|>>=?|<<=?|[!=<>]=|[-+*/%@&|^]=|[-()\[\]{{}}.,:;=+*/%@&|^~<>])
    | (?P<join>\\\n)
    | (?P<odd>[^\s\x00])
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS = {
    "name": NAME,
    "late": NAME,
    "number": NUMBER,
    "sign": SIGN,
    "string": STRING,
    "comment": COMMENT,
    "end": LINE_END,
    "odd": ODD,
}
_BY_GROUP = [_KINDS.get(name, -1) for name, _ in sorted(_LEXEME.groupindex.items(), key=lambda item: item[1])]
_KEYWORDS = frozenset(keyword.kwlist) | {"match", "case", "print", "exec", "type"}

_CODE_LINE = re.compile(
    r"^[ \t]*(?:(?:def|class|if|elif|for|while|with|except)\b[^\n]*:|(?:else|try|finally):"
    r"|(?:return|import|from)\b[^\n]*|@\w[\w.]*(?:\([^\n]*)?"
    r"|[\w.]+(?:\[[^\n]*\])? [-+*/]?= [^\n]*|[\w.]+\([^\n]*\))[ \t]*$",
    re.MULTILINE,
)
"""Lines that are rare in a string, examples after a prompt aside."""

_CLOSING = re.compile(r"^[^'\"]*['\"][ ]*[,)\]}:]")
"""A first quote that closes a string rather than being an apostrophe."""

_OPENINGS: tuple[tuple[int, re.Pattern[str]], ...] = (
    (COMMENT, re.compile(r"(?:(?!\"\"\"|''')[^\n])+(?=\n|\Z)")),
    (STRING, re.compile(_TRIPLE['"'] + r'(?:"""|\Z)', re.DOTALL)),
    (STRING, re.compile(_TRIPLE["'"] + r"(?:'''|\Z)", re.DOTALL)),
    (STRING, re.compile(_SINGLE['"'] + '"', re.DOTALL)),
    (STRING, re.compile(_SINGLE["'"] + "'", re.DOTALL)),
)
"""What a piece may begin inside of, beside plain code: its kind, and what is left of it; the first of equals wins."""


@dataclass(frozen=True, slots=True)
class Lexeme:
    kind: int
    start: int
    end: int


def scan(text: str, low: int, high: int, *, whole: bool) -> tuple[list[Lexeme], bool]:
    """The lexemes of text[low:high], and whether it begins inside a string or comment, which is then the first.

    whole: the file begins here, so that nothing lies before.
    """
    best = _read(text, low, high)
    slips = _slips(text, high, best)
    if whole or slips == 0:
        return _clean(best), False
    begun = False
    for kind, opening in _OPENINGS:
        rest = opening.match(text, low, high)
        if rest is None or rest.end() == low:
            continue
        other = _read(text, rest.end(), high)
        n = _slips(text, high, other) + _slips_of_opening(kind, rest[0], alone=rest.end() == high)
        if n < slips:
            best, slips, begun = [Lexeme(kind, low, rest.end()), *other], n, True
        if n == 0:
            break
    return _clean(best), begun


def _read(text: str, low: int, high: int) -> list[Lexeme]:
    kinds = _BY_GROUP
    found = (
        (kinds[match.lastindex - 1], match.span()) for match in _LEXEME.finditer(text, low, high) if match.lastindex
    )
    return [Lexeme(kind, *span) for kind, span in found if kind >= 0]


def _slips(text: str, high: int, lexemes: list[Lexeme]) -> int:
    """How much of a reading no Python source would hold."""
    n, before = 0, False
    for lexeme in lexemes:
        if lexeme.kind == NAME:
            plain = text[lexeme.start : lexeme.end] not in _KEYWORDS
            n += before and plain
            before = plain
            continue
        n += lexeme.kind == ODD
        if lexeme.kind == STRING:
            n += _slips_of_string(text[lexeme.start : lexeme.end], cut=lexeme.end == high)
        before = False
    return n


def _slips_of_opening(kind: int, opening: str, *, alone: bool) -> int:
    """The same of what a piece is read to begin inside of. alone: there is nothing after it."""
    if kind == COMMENT:
        return _CLOSING.search(opening) is not None
    # That all of a piece lies in one string is the last thing to believe of it.
    return alone + sum(1 for _ in _CODE_LINE.finditer(opening))


def _slips_of_string(string: str, *, cut: bool) -> int:
    """One for a string of one line that is not closed on it; for a longer one, its lines that look like code.

    cut: the piece ends with it.
    """
    if "\n" in string:
        return sum(1 for _ in _CODE_LINE.finditer(string))
    if cut:
        return 0
    quotes = string.lstrip("rbufRBUF")
    return len(quotes) < 2 or quotes[0] not in "'\"" or quotes[-1] != quotes[0]


def _clean(lexemes: list[Lexeme]) -> list[Lexeme]:
    return [lexeme for lexeme in lexemes if lexeme.kind != ODD]


def inside_string(text: str, lexeme: Lexeme, *, begun: bool) -> tuple[str, int, int, int]:
    """A string's prefix in lower case, the length of its quotes (0 where they lie before the piece), and its inside.

    begun: the piece begins inside of it.
    """
    if begun:
        end = lexeme.end
        for quotes in ('"""', "'''", '"', "'"):
            if text.endswith(quotes, lexeme.start, end):
                return "", 0, lexeme.start, end - len(quotes)
        return "", 0, lexeme.start, end
    start = lexeme.start
    while text[start] not in "'\"":
        start += 1
    n = 3 if text[start : start + 3] in ('"""', "'''") else 1
    inside = start + n
    closed = lexeme.end - inside >= n and text.startswith(text[start:inside], lexeme.end - n)
    return text[lexeme.start : start].lower(), n, inside, lexeme.end - n if closed else lexeme.end
