"""Predicates of white space, of lines and of where a token stands in its line, sentence, context and document."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from featuredb.predicates.predicate import Predicate
from featuredb.predicates.text import Mask, Places
from featuredb.predicates.view import Lines, View

LONG_LINE, SHORT_LINE = 72, 20
"""Characters from which, and up to which, a line counts as long or short."""


def _line(name: str, noun: str, when: str, lines: Callable[[Lines], Mask], *, wide: bool = True) -> Predicate:
    """Of tokens, blank ones aside, on some lines."""
    return Predicate(f"line.{name}", noun, when, lambda view: view.lines.over(lines(view.lines)), wide=wide)


def _line_pattern(name: str, noun: str, when: str, pattern: str, *, wide: bool = True) -> Predicate:
    return Predicate(f"line.{name}", noun, when, lambda view: view.pattern(pattern), wide=wide)


def _indented(low: int, high: int) -> Callable[[Lines], Mask]:
    return lambda lines: (lines.indent >= low) & (lines.indent <= high)


def _length(lines: Lines) -> Places:
    return lines.tail + 1 - lines.start


def _edge(first: bool) -> Callable[[View], Mask]:
    """The first or last token, blank ones aside, of each line whose edge the piece shows."""

    def tokens(view: View) -> Mask:
        lines, text = view.lines, view.text
        shown = ~lines.blank & (lines.begun if first else lines.ended)
        place = (lines.head if first else lines.tail)[shown]
        return text.over(place, place + 1)

    return tokens


def _second(view: View) -> Mask:
    """The token after the first one of its line."""
    lines = view.lines
    same = np.zeros(view.n_tokens, np.bool_)
    same[1:] = lines.of_token[1:] == lines.of_token[:-1]
    return view.before(_edge(first=True)(view)) & same & ~view.blank


def _alone(view: View) -> Mask:
    lines = view.lines
    return _edge(first=True)(view) & _edge(first=False)(view) & lines.over(lines.begun & lines.ended)


def _beside_blank(below: bool) -> Callable[[Lines], Mask]:
    """Lines with a blank one above (below=False) or below them, in their piece."""

    def lines(found: Lines) -> Mask:
        empty = found.blank & found.begun & found.ended
        beside = np.zeros(len(empty), np.bool_)
        if below:
            beside[:-1] = empty[1:] & (found.piece[1:] == found.piece[:-1])
        else:
            beside[1:] = empty[:-1] & (found.piece[1:] == found.piece[:-1])
        return beside & ~found.blank

    return lines


def _like_above(view: View) -> Mask:
    """Tokens of lines that begin with the same three characters, or word, as the line above."""
    lines, string = view.lines, view.text.string
    leads = [
        string[head : min(head + 3, end)] for head, end in zip(lines.head.tolist(), lines.end.tolist(), strict=True)
    ]
    same = np.zeros(len(leads), np.bool_)
    same[1:] = [one == other for one, other in zip(leads[1:], leads[:-1], strict=True)]
    same[1:] &= (lines.piece[1:] == lines.piece[:-1]) & ~lines.blank[1:] & ~lines.blank[:-1]
    return lines.over(same)


def _leading_space(view: View) -> Mask:
    """Blank tokens that a line begins with."""
    follows = np.append(~view.blank[1:], False) if view.n_tokens else view.blank
    newline = view.table(lambda text: "\n" in text and not text.strip() and not text.endswith("\n"))
    indent = view.lines.indent[view.lines.of_token] if view.n_tokens else np.zeros(0)
    return view.blank & follows & (newline | view.before(view.table(lambda text: text.endswith("\n")))) & (indent > 0)


def _leading(low: int, high: int) -> Callable[[View], Mask]:
    def tokens(view: View) -> Mask:
        indent = view.lines.indent[view.lines.of_token]
        return _leading_space(view) & (indent >= low) & (indent <= high)

    return tokens


def _step(deeper: bool) -> Callable[[View], Mask]:
    """The white space, or first token, of lines that are indented more, or less, than the one before."""

    def tokens(view: View) -> Mask:
        lines = view.lines
        known = (lines.indent >= 0) & (lines.above >= 0)
        chosen = known & ((lines.indent > lines.above) if deeper else (lines.indent < lines.above))
        return chosen[lines.of_token] & (_edge(first=True)(view) | _leading_space(view))

    return tokens


def _blanks(view: View, pattern: str) -> Mask:
    """Tokens on a stretch of white space."""
    return view.text.over_pairs(match.span() for match in re.finditer(pattern, view.text.string))


def _headings(view: View) -> Mask:
    """Lines above an underline, and those marked with number signs, which are comments in Python."""
    underlined = view.pattern(r"^[^\s\x00][^\n\x00]*\n(?=([-=*~^\"'+`:.#])\1{3,}[ \t]*$)")
    return underlined | (view.pattern(r"^#{1,6} [^\n\x00]*") & ~view.is_python)


SPACE = (
    Predicate("space.blank", "white space", "of white space", lambda view: view.blank),
    Predicate("space.newline", "line breaks", "on a line break", lambda view: view.table(lambda text: "\n" in text)),
    Predicate(
        "space.blank_line",
        "breaks before or after a blank line",
        "at a blank line",
        lambda view: _blanks(view, r"(?<!\x00)\n[ \t]*\n"),
    ),
    Predicate("space.indent", "indentation", "of indentation", _leading_space),
    Predicate("space.indent_4", "indentation of up to 4 columns", "of indentation by up to 4", _leading(1, 4)),
    Predicate("space.indent_8", "indentation of 5 to 8 columns", "of indentation by 5 to 8", _leading(5, 8)),
    Predicate("space.indent_12", "indentation of 9 to 12 columns", "of indentation by 9 to 12", _leading(9, 12)),
    Predicate(
        "space.indent_more",
        "indentation of more than 12 columns",
        "of indentation by more than 12",
        _leading(13, 10_000),
    ),
    Predicate(
        "space.deeper",
        "where lines are indented deeper than before",
        "where indentation grows",
        _step(deeper=True),
        wide=True,
    ),
    Predicate(
        "space.shallower",
        "where lines are indented less than before",
        "where indentation shrinks",
        _step(deeper=False),
        wide=True,
    ),
    Predicate("space.tab", "tabs", "with a tab", lambda view: view.table(lambda text: "\t" in text)),
    Predicate(
        "space.gap",
        "gaps of several spaces inside a line",
        "in a gap inside a line",
        lambda view: _blanks(view, r"(?<=[^\s\x00]) {2,}(?=[^\s\x00])"),
    ),
    Predicate(
        "space.led",
        "tokens that open with a space",
        "with a space before",
        lambda view: view.table(lambda text: text[:1] == " " and text.strip() != ""),
        wide=True,
    ),
    Predicate(
        "space.none",
        "tokens joined to the one before",
        "without a space before",
        lambda view: view.table(lambda text: text.strip() != "" and not text[:1].isspace()),
        wide=True,
    ),
)

LINES = (
    Predicate("line.first", "first tokens of lines", "first on its line", _edge(first=True), wide=True),
    Predicate("line.second", "second tokens of lines", "second on its line", _second, wide=True),
    Predicate("line.last", "last tokens of lines", "last on its line", _edge(first=False), wide=True),
    Predicate("line.alone", "tokens alone on their line", "alone on its line", _alone, wide=True),
    _line("margin", "lines at the margin", "on a line at the margin", _indented(0, 0)),
    _line("indented_4", "lines indented by up to 4", "on a line indented by up to 4", _indented(1, 4)),
    _line("indented_8", "lines indented by 5 to 8", "on a line indented by 5 to 8", _indented(5, 8)),
    _line("indented_12", "lines indented by 9 to 12", "on a line indented by 9 to 12", _indented(9, 12)),
    _line(
        "indented_more", "lines indented by more than 12", "on a line indented by more than 12", _indented(13, 10_000)
    ),
    _line(
        "long", f"lines of {LONG_LINE} characters or more", "on a long line", lambda lines: _length(lines) >= LONG_LINE
    ),
    _line(
        "short",
        f"lines of at most {SHORT_LINE} characters",
        "on a short line",
        lambda lines: lines.begun & lines.ended & (_length(lines) <= SHORT_LINE),
    ),
    _line("after_blank", "lines after a blank one", "after a blank line", _beside_blank(below=False)),
    Predicate(
        "line.like_above",
        "lines that begin like the one above",
        "on a line that begins like the one above",
        _like_above,
        wide=True,
    ),
    _line_pattern(
        "ends_colon", "lines that end with a colon", "on a line that ends with a colon", r"^[^\n\x00]*:[ \t]*$"
    ),
    _line_pattern(
        "ends_comma", "lines that end with a comma", "on a line that ends with a comma", r"^[^\n\x00]*,[ \t]*$"
    ),
    _line_pattern(
        "prompt",
        "doctest prompts",
        "on a doctest prompt",
        r"^[ \t]*(?:#[ \t]*)?(?:>>>|\.\.\.)(?=[ \n\x00])",
        wide=False,
    ),
    _line_pattern("doctest", "doctest lines", "on a doctest line", r"^[ \t]*(?:#[ \t]*)?>>> [^\n\x00]*"),
    _line_pattern(
        "bullet",
        "bullets and numbers of list items",
        "on a bullet",
        r"^[ \t]*(?:#[ \t]*)?(?:[-*+•]|\(?(?:\d{1,2}|[a-z])[.)])(?=[ \t]+[^\s\x00])",
        wide=False,
    ),
    _line_pattern(
        "item",
        "list items",
        "in a list item",
        r"^[ \t]*(?:#[ \t]*)?(?:[-*+•]|\(?(?:\d{1,2}|[a-z])[.)])[ \t]+[^\s\x00][^\n\x00]*",
    ),
    _line_pattern(
        "underline",
        "underlines of headings",
        "on a heading's underline",
        r"^[ \t#]*([-=*~^\"'+`:.#])\1{3,}[ \t#]*$",
        wide=False,
    ),
    Predicate("line.heading", "headings", "in a heading", _headings, wide=True),
    _line_pattern(
        "table", "rows of tables", "in a table", r"^[ \t]*(?:\|[^\n\x00]*\||\+(?:[-=]+\+)+|={3,}(?: +={3,})+)[ \t]*$"
    ),
    _line_pattern("directive", "reST directives", "in a reST directive", r"^[ \t]*\.\. [^\n\x00]*"),
)

PREDICATES = (*SPACE, *LINES)
