"""Predicates of prose, in documents as in comments and docstrings, and of what stands before a token anywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featuredb.predicates import of_words
from featuredb.predicates.predicate import Predicate
from featuredb.predicates.text import Mask
from featuredb.predicates.view import View

_SENTENCE = r"(?:(?<=[.!?][ \n])|(?<=[.!?][ \n] )|(?<=[^\x00]\n\n))[ \t#]*(?:['\"(`*]*)([A-Z][\w'’]*)"
_QUESTION = r"(?:(?<=[.!?:] )|(?<=[^\x00]\n))[ \t#]*([A-Z][a-z]*\b[^.!?\n\x00]*(?:\n(?!\s*\n)[^.!?\n\x00]*){0,2}\?)"


def _prose(name: str, noun: str, when: str, pattern: str, group: int = 0, *, wide: bool = False) -> Predicate:
    return Predicate(f"prose.{name}", noun, when, lambda view: view.in_prose(pattern, group), wide=wide)


def _anywhere(name: str, noun: str, when: str, pattern: str, group: int = 0) -> Predicate:
    return Predicate(f"prose.{name}", noun, when, lambda view: view.pattern(pattern, group))


def _after_words(name: str, noun: str, when: str, words: str) -> Predicate:
    """Of the word after one of some words, with no more than white space between them."""
    wanted = frozenset(words.split())

    def tokens(view: View) -> Mask:
        text, runs = view.text, view.text.words
        first = runs.having(lambda word: word.lower() in wanted)
        gap_start, gap_end = runs.end[:-1], runs.start[1:]
        seen = np.concatenate([[0], np.cumsum(text.visible)])
        border = np.concatenate([[0], np.cumsum(text.codes == 0)])
        joined = (seen[gap_end] == seen[gap_start]) & (border[gap_end] == border[gap_start]) & (gap_end > gap_start)
        chosen = np.zeros(len(first), np.bool_)
        chosen[1:] = first[:-1] & joined
        return text.over(runs.start[chosen], runs.end[chosen])

    return Predicate(f"prose.{name}", noun, when, tokens)


def _after(name: str, noun: str, when: str, test: Callable[[str], bool]) -> Predicate:
    """Of tokens whose token before passes a test."""
    return Predicate(f"after.{name}", noun, when, lambda view: view.before(view.table(test)), wide=True)


def _after_mark(name: str, mark: str, what: str) -> Predicate:
    """Of tokens whose token before ends with one of some marks, blanks aside."""
    ends = tuple(mark)
    return _after(name, f"tokens after {what}", f"after {what}", lambda text: text.rstrip(" ").endswith(ends))


PROSE = (
    Predicate("prose.any", "prose", "in prose", lambda view: view.prose, wide=True),
    _prose("sentence_first", "first words of sentences", "first in a sentence", _SENTENCE, 1),
    _prose(
        "sentence_end",
        "ends of sentences",
        "at the end of a sentence",
        r"(?<=[\w)\]'\"`])[.!?](?=[ \n]+[A-Z\"'(`]|\s*$)",
    ),
    _prose("question", "questions", "in a question", _QUESTION, 1, wide=True),
    _prose(
        "proper",
        "capitalised words inside sentences",
        "on a capitalised word inside a sentence",
        r"(?<=[a-z,;] )[A-Z][a-z]+\b",
    ),
    _prose(
        "quoted",
        "quoted words in prose",
        "in quotes, in prose",
        r"(?<![\w'\"])(?:'[^'\n\x00]{1,60}'|\"[^\"\n\x00]{1,80}\"|“[^”\x00]{1,80}”)(?!\w)",
    ),
    _prose("ticked", "words in backticks", "in backticks", r"`+[^`\n\x00]+`+"),
    _prose(
        "aside",
        "asides in parentheses",
        "in an aside in parentheses",
        r"(?<=[\s\x00])\([^()\n\x00]{2,}(?:\n[^()\n\x00]*)?\)",
        wide=True,
    ),
    _prose("hyphenated", "hyphenated words", "in a hyphenated word", r"\b[A-Za-z]{2,}(?:-[A-Za-z]{2,})+\b"),
    _prose(
        "abbreviation",
        "abbreviations such as `e.g.`",
        "in an abbreviation",
        r"\b(?:e\.g|i\.e|etc|vs|cf|al|a\.k\.a|Mr|Mrs|Dr|St|Fig|No|Inc|Ltd)\.|\b(?:[A-Z]\.){2,}",
    ),
    _anywhere("role", "reST roles such as `:class:`", "in a reST role", r":[a-z][\w:+-]{0,40}:`[^`\x00]+`"),
    _anywhere(
        "url", "web addresses", "in a web address", r"\b(?:https?|ftp|file)://[^\s<>\"')\x00]+|\bwww\.[^\s<>\"')\x00]+"
    ),
    _anywhere("email", "e-mail addresses", "in an e-mail address", r"\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+"),
    _anywhere(
        "path", "paths of files", "in a path", r"(?<![\w.:/])(?:~|\.{1,2})?(?:/[\w.+-]+){2,}/?|\b[A-Za-z]:\\[\w\\.-]+"
    ),
    _anywhere("tag", "tags such as `<b>`", "in a tag", r"</?[A-Za-z][\w-]*(?:\s[^<>\n\x00]*)?/?>"),
    _after_words("after_determiner", "words after a determiner", "after a determiner", of_words.DETERMINERS),
    _after_words("after_preposition", "words after a preposition", "after a preposition", of_words.PREPOSITIONS),
    _after_words("after_to", "words after `to`", "after `to`", "to"),
    _after_words("after_auxiliary", "words after be, have or do", "after be, have or do", of_words.AUXILIARIES),
    _after_words("after_modal", "words after a modal verb", "after a modal verb", of_words.MODALS),
)

AFTER = (
    _after_mark("comma", ",", "a comma"),
    _after_mark("period", ".", "a full stop or dot"),
    _after_mark("colon", ":", "a colon"),
    _after_mark("equals", "=", "an equals sign"),
    _after_mark("round_open", "(", "an opening parenthesis"),
    _after_mark("square_open", "[", "an opening square bracket"),
    _after_mark("bracket_close", ")]}", "a closing bracket"),
    _after_mark("quote", "'\"", "a quote"),
    _after_mark("slash", "/\\", "a slash"),
    _after_mark("underscore", "_", "an underscore"),
    _after_mark("hash", "#", "a number sign"),
    _after(
        "line_break", "tokens after a line break", "after a line break", lambda text: "\n" in text and not text.strip()
    ),
    _after(
        "capitals",
        "tokens after capital letters",
        "after capitals",
        lambda text: text.strip().isalpha() and text.strip().isupper(),
    ),
    _after("number", "tokens after a number", "after a number", lambda text: text.strip().isdigit()),
)

PREDICATES = (*PROSE, *AFTER)
