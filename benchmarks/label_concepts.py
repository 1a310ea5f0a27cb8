"""Forty concepts that label_truth plants: what a character of a document is, told by patterns over the whole document.

Rule: patterns of their own; nothing of featuredb.predicates is used, so that a label cannot be right by construction.
Each concept is in twenty documents or more of either half of the demo's text: what only a few documents have, no
labeler can learn from one half and tell in the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
Spans = Callable[[str], Iterator[Span]]

BLANK = " \t\n\r\f\v"


@dataclass(frozen=True, slots=True)
class Concept:
    """Something that characters of a document can be."""

    name: str
    spans: Spans
    in_bank: bool = False
    """Whether a predicate of the bank says the same in its own way."""
    code_only: bool = False
    """Whether it is looked for in Python source alone."""
    blank: bool = False
    """Whether it is about white space; other concepts are about what is not."""


def token_mask(concept: Concept, name: str, text: str, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether each token holds a character of the concept. offsets: (n, 2) the characters of each token."""
    steps = np.zeros(len(text) + 1, np.int32)
    if name.endswith(".py") or not concept.code_only:
        for start, end in concept.spans(text):
            steps[start] += 1
            steps[end] -= 1
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    blank = np.isin(codes, [ord(each) for each in BLANK])
    inside = np.concatenate([[0], np.cumsum((np.cumsum(steps)[:-1] > 0) & (blank == concept.blank))])
    found: NDArray[np.bool_] = inside[offsets[:, 1]] > inside[offsets[:, 0]]
    if concept.blank:
        visible = np.concatenate([[0], np.cumsum(~blank)])
        found &= visible[offsets[:, 1]] == visible[offsets[:, 0]]
    return found


def _pattern(pattern: str, group: int = 0) -> Spans:
    found = re.compile(pattern, re.MULTILINE)
    return lambda text: (match.span(group) for match in found.finditer(text))


def _words(words: str) -> Spans:
    return _pattern(rf"(?<![A-Za-z])(?:{'|'.join(words.split())})(?![A-Za-z])")


def _union(*parts: Spans) -> Spans:
    return lambda text: (span for part in parts for span in part(text))


FUNCTION_NAME = _pattern(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", 1)
CLASS_NAME = _pattern(r"^[ \t]*class[ \t]+(\w+)", 1)
DIGITS = _pattern(r"\d+")
ING = _pattern(r"\b[A-Za-z]{2,}ing\b")
CAPITALS = _pattern(r"\b[A-Z]{2,}\b")

CONCEPTS: tuple[Concept, ...] = (
    # lists of words
    Concept("words of files", _words("file files path paths directory directories filename dirname folder")),
    Concept("words of reference", _words("this that these those it its they them which here there")),
    Concept("words of two letters", _pattern(r"\b[a-z]{2}\b")),
    Concept("words of concurrency", _words("thread threads lock process queue event task loop future worker")),
    Concept("words of failure", _words("error errors Error exception exceptions warning fail failed failure raised")),
    Concept("words of text", _words("string strings text line lines char character characters word words")),
    Concept("words that look at objects", _words("isinstance hasattr getattr setattr type len callable repr str")),
    Concept("words of containers", _words("list lists dict tuple set array mapping sequence")),
    # patterns
    Concept("words in un-, re- and dis-", _pattern(r"\b(?:un|re|dis)[a-z]{3,}\b")),
    Concept("words of four letters", _pattern(r"\b[a-z]{4}\b")),
    Concept("words with a double letter", _pattern(r"\b[a-z]*([a-z])\1[a-z]*\b")),
    Concept("quoted single words", _pattern(r"(?<=['\"])\w+(?=['\"])")),
    Concept("names with a digit inside", _pattern(r"\b[A-Za-z_]+\d\w*")),
    Concept("the word after a comma", _pattern(r",\s*(\w+)", 1)),
    Concept("the word after the", _pattern(r"\b[Tt]he\s+([A-Za-z]+)", 1)),
    Concept("the word before a comma", _pattern(r"\b(\w+),", 1)),
    Concept("what follows a return", _pattern(r"\breturn[ \t]+(\w+)", 1), code_only=True),
    Concept("names of three parts", _pattern(r"\b[a-z]+_[a-z]+_[a-z_]+\b")),
    Concept("attributes of self being set", _pattern(r"\bself\.(\w+)\s*=(?!=)", 1), code_only=True),
    Concept("asides in comments", _pattern(r"#[^\n(]*(\([^)\n]*\))", 1), code_only=True),
    # unions
    Concept("digits and closing brackets", _union(DIGITS, _pattern(r"[)\]}]"))),
    Concept("commas and colons", _pattern(r"[,:]")),
    Concept("words of control", _words("if else elif while for and or not")),
    Concept("words in -ing and -ed", _union(ING, _pattern(r"\b[A-Za-z]{2,}ed\b"))),
    Concept("underscores and capitals", _union(_pattern(r"_"), CAPITALS)),
    Concept("quotes, percent signs and backslashes", _pattern(r"[\"'%\\]")),
    Concept("constants and numbers", _union(_words("None True False"), _pattern(r"\b\d+\b"))),
    Concept("names being defined", _union(FUNCTION_NAME, CLASS_NAME), code_only=True),
    Concept("marks of a sentence", _pattern(r"(?<=[a-z])[.,;!?](?=\s)")),
    Concept("signs of arithmetic and assignment", _pattern(r"(?<= )(?:[-+*/%=]|[-+*/=!<>]=|<|>)(?= )"), code_only=True),
    # what the bank has too
    Concept("function names", FUNCTION_NAME, in_bank=True, code_only=True),
    Concept("comments", _pattern(r"^[ \t]*(#[^\n]*)", 1), in_bank=True, code_only=True),
    Concept("words in capitals", CAPITALS, in_bank=True),
    Concept("digits", DIGITS, in_bank=True),
    Concept("what follows self.", _pattern(r"\bself\.(\w+)", 1), in_bank=True, code_only=True),
    Concept("opening brackets", _pattern(r"[(\[{]"), in_bank=True),
    Concept("words in -ing", ING, in_bank=True),
    Concept("the first character of a line", _pattern(r"^[ \t]*(\S)", 1), in_bank=True),
    Concept("indentation", _pattern(r"^[ \t]+(?=\S)"), in_bank=True, blank=True),
    Concept("articles", _pattern(r"\b(?:[Tt]he|[Aa]n?)\b"), in_bank=True),
)
