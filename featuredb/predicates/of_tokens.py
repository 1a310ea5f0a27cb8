"""Predicates of what a token is spelt with: letters and their case, digits, marks, brackets, scripts and bytes.

Rule: one line a predicate; nothing here looks past the word that a token is a piece of.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import numpy as np

from featuredb.predicates.predicate import Predicate
from featuredb.predicates.text import Mask
from featuredb.predicates.view import View

_BYTE = re.compile(r"\\x[89a-f][0-9a-f]")


def _spelt(name: str, noun: str, when: str, test: Callable[[str], bool]) -> Predicate:
    """Of a token's own text, blanks around it aside."""
    return Predicate(name, noun, when, lambda view: view.table(lambda text: test(text.strip())))


def _mark(name: str, noun: str, mark: str, when: str | None = None) -> Predicate:
    """Of tokens that hold one of some marks."""
    wanted = frozenset(mark)
    return _spelt(f"mark.{name}", noun, when or f"on {noun}", lambda text: not wanted.isdisjoint(text))


def _name(name: str, noun: str, when: str, test: Callable[[str], bool]) -> Predicate:
    """Of the whole name, digits and underscores included, that a token is a piece of."""
    return Predicate(name, noun, when, lambda view: view.names(test))


def _called(name: str, noun: str, when: str, pattern: str) -> Predicate:
    """The same, by a pattern."""
    matches = re.compile(pattern).fullmatch
    return _name(name, noun, when, lambda text: matches(text) is not None)


def _word(name: str, noun: str, when: str, test: Callable[[str], bool]) -> Predicate:
    """Of the word, of letters alone, that a token is a piece of."""
    return Predicate(name, noun, when, lambda view: view.words(test))


def _pattern(name: str, noun: str, when: str, pattern: str) -> Predicate:
    return Predicate(name, noun, when, lambda view: view.pattern(pattern))


def _script(name: str, noun: str, when: str, *scripts: str) -> Predicate:
    """Of characters that Unicode names after one of some scripts, whole or in part."""
    return Predicate(
        f"script.{name}", noun, when, lambda view: _foreign(view, lambda c: unicodedata.name(c, "").startswith(scripts))
    )


def _foreign(view: View, test: Callable[[str], bool]) -> Mask:
    """Tokens on a character, not of ASCII, that passes a test."""
    distinct = np.unique(view.text.codes[view.text.codes > 0x7F])
    passing = np.array([code for code in distinct.tolist() if test(chr(code))], np.uint32)
    return view.text.holding(np.isin(view.text.codes, passing))


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text))


def _is_camel(text: str) -> bool:
    inner = text.strip("_")
    return inner.isalnum() and inner[0].islower() and any(map(str.isupper, inner))


def _is_cap_words(text: str) -> bool:
    inner = text.strip("_")
    return inner.isalnum() and inner[0].isupper() and any(map(str.isupper, inner[1:])) and any(map(str.islower, inner))


CASE = (
    _spelt("case.upper", "capital letters", "in capitals", lambda text: _letters(text).isupper()),
    _spelt("case.lower", "lower-case letters", "in lower case", lambda text: _letters(text).islower()),
    _spelt("case.capital", "pieces that begin with a capital", "with a capital first", lambda text: text[:1].isupper()),
    _word(
        "case.upper_word", "words in capitals", "in an all-capitals word", lambda text: len(text) > 1 and text.isupper()
    ),
    _word(
        "case.capitalised", "capitalised words", "in a capitalised word", lambda text: len(text) > 1 and text.istitle()
    ),
    _name("case.camel", "camelCase names", "in a camelCase name", _is_camel),
    _name("case.cap_words", "CapWords names", "in a CapWords name", _is_cap_words),
    _called("case.snake", "snake_case names", "in a snake_case name", r"_*[a-z][a-z0-9]*(?:_+[a-z0-9]+)+_*"),
    _called("case.constant", "CONSTANT_NAMES", "in a CONSTANT_NAME", r"_*[A-Z][A-Z0-9]*(?:_+[A-Z0-9]+)+_*"),
    _pattern("case.hump", "capitals inside a word", "from a capital inside a word", r"(?<=[a-z0-9])[A-Z]+[a-z]*"),
)

DIGITS = (
    _spelt("digit.any", "digits", "with a digit", lambda text: any(map(str.isdigit, text))),
    _spelt("digit.only", "digits alone", "of digits alone", str.isdigit),
    _called("digit.number", "whole numbers", "in a whole number", r"\d+"),
    _called("digit.long", "numbers of four digits or more", "in a long number", r"\d{4,}"),
    _called("digit.year", "years", "in a year", r"1[6-9]\d\d|20\d\d"),
    _called("digit.hexadecimal", "hexadecimal numbers", "in a hexadecimal number", r"0[xX][0-9a-fA-F]+"),
    _pattern(
        "digit.fraction", "decimal fractions", "in a decimal fraction", r"(?<![\w.])\d*\.\d+(?:[eE][-+]?\d+)?(?![\w.])"
    ),
    _pattern(
        "digit.version",
        "version numbers",
        "in a version number",
        r"(?<![\w.])(?:[vV]\d+(?:\.\d+)+|\d+(?:\.\d+){2,})(?:[abrc]+\d+)?(?!\w)",
    ),
    _pattern("digit.time", "dates and times", "in a date or time", r"\b(?:\d{1,4}[-/:]){2}\d{1,4}\b|\b\d?\d:\d\d\b"),
    _pattern("digit.in_name", "digits inside names", "on a digit inside a name", r"(?<=[^\W\d])\d+"),
    _pattern("digit.after_digit", "digits after a digit", "after a digit", r"(?<=\d)\d+"),
)

MARKS = (
    _mark("period", "full stops", "."),
    _mark("comma", "commas", ","),
    _mark("colon", "colons", ":"),
    _mark("semicolon", "semicolons", ";"),
    _mark("exclamation", "exclamation marks", "!"),
    _mark("question", "question marks", "?"),
    _mark("hyphen", "hyphens and minus signs", "-"),
    _mark("slash", "slashes", "/"),
    _mark("backslash", "backslashes", "\\"),
    _mark("underscore", "underscores", "_", "with an underscore"),
    _mark("asterisk", "asterisks", "*"),
    _mark("hash", "number signs", "#"),
    _mark("at", "at signs", "@"),
    _mark("ampersand", "ampersands", "&"),
    _mark("percent", "percent signs", "%"),
    _mark("dollar", "dollar signs", "$"),
    _mark("caret", "carets", "^"),
    _mark("tilde", "tildes", "~"),
    _mark("bar", "vertical bars", "|"),
    _mark("plus", "plus signs", "+"),
    _mark("equals", "equals signs", "="),
    _mark("less", "less-than signs", "<"),
    _mark("greater", "greater-than signs", ">"),
    _mark("backtick", "backticks", "`"),
    _mark("double_quote", "double quotes", '"“”«»'),
    _mark("single_quote", "single quotes and apostrophes", "'‘’"),
    _spelt("mark.any", "punctuation", "on punctuation", lambda text: any(not c.isalnum() and c != "_" for c in text)),
    _spelt(
        "mark.only",
        "punctuation alone",
        "of punctuation alone",
        lambda text: text != "" and not any(map(str.isalnum, text)),
    ),
    _pattern("mark.ellipsis", "ellipses", "on an ellipsis", r"\.{3,}|…"),
    _pattern("mark.rule", "rows of one mark", "in a row of one mark", r"([-=*~#_.+^\"'`])\1{3,}"),
)

BRACKETS = (
    _mark("round_open", "opening parentheses", "("),
    _mark("round_close", "closing parentheses", ")"),
    _mark("square_open", "opening square brackets", "["),
    _mark("square_close", "closing square brackets", "]"),
    _mark("curly_open", "opening braces", "{"),
    _mark("curly_close", "closing braces", "}"),
    _mark("bracket_open", "opening brackets", "([{"),
    _mark("bracket_close", "closing brackets", ")]}"),
    _pattern("mark.bracket_pair", "empty brackets", "on empty brackets", r"\(\)|\[\]|\{\}"),
)

SCRIPTS = (
    Predicate(
        "script.not_ascii", "characters that are not ASCII", "not in ASCII", lambda view: _foreign(view, lambda _: True)
    ),
    _spelt(
        "script.part", "parts of a character", "on a part of a character", lambda text: _BYTE.search(text) is not None
    ),
    _script("latin", "accented Latin letters", "on an accented letter", "LATIN"),
    _script("greek", "Greek letters", "in Greek", "GREEK"),
    _script("cyrillic", "Cyrillic letters", "in Cyrillic", "CYRILLIC"),
    _script("hebrew_arabic", "Hebrew and Arabic letters", "in Hebrew or Arabic", "HEBREW", "ARABIC"),
    _script(
        "cjk",
        "Chinese, Japanese and Korean characters",
        "in Chinese, Japanese or Korean",
        "CJK",
        "HIRAGANA",
        "KATAKANA",
        "HANGUL",
        "IDEOGRAPHIC",
    ),
)

PREDICATES = (*CASE, *DIGITS, *MARKS, *BRACKETS, *SCRIPTS)
