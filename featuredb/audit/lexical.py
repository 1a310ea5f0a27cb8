"""The tokens that a label's words name, whoever wrote it: what is quoted as it stands, and its other words inflected.

Rule: a label's text and the vocabulary decide; what fires where is not looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featuredb.predicates.expression import quote
from featuredb.predicates.tagged import Tagged
from featuredb.predicates.text import Mask

OUTPUT = re.compile(r"(?:^|;)\s*(?:pushes|pushing|promotes|promoting|raises) (?:towards? |the )?.*$", re.DOTALL)
"""The part of a label that speaks of what a feature causes, which is not where it fires."""

MORE = re.compile(r"\band \d+ more\b")

QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|`([^`]+)`|«([^»]+)»|(?<!\w)['‘]([^'’]+)['’](?!\w)")

WORD = re.compile(r"[^\W\d_]+|\d+")

PARTS = re.compile(r"[^\W\d_]+|\d+|[^\w\s]+|_+")

USUAL, ENOUGH_LABELS = 0.05, 100
"""A word that stands in a larger share of a dictionary's labels, where it has that many, is part of their form."""

_STOP = """
    a about above across activates activating activation after again against all also an and any appear appearing
    appears are as associated at be been before beginning being between both but by can character characters clear
    code concept concepts contain containing contains context contexts could describe describing different do
    document documents does during each either end ending ends especially etc example examples expression
    expressions feature features fire fires firing first followed following for form forms found from general has
    have having how if in include includes including indicate indicates indicating inside instance instances into
    involving is it item items its just kind last letter letters like line lines longer mainly mark marks may
    mention mentioned mentioning mentions more most mostly name names narrow nature neuron next no not occurrence
    occurrences of often on one ones only or other others out outside over part particular particularly parts
    pattern patterns phrase phrases piece pieces place places position positions preceded preceding predominantly
    prefix presence primarily pushes refer reference references referring refers related relates relating relation
    same second sentence sentences sequence sequences several similar snippet snippets some specific specifically
    start starting starts such suffix term terms text texts than that the their them then there these they thing
    things this those through to token tokens topic topics toward towards type types under up usage use used uses
    using usually various very when where whether which while who whose with within without word words
"""

STOP = frozenset(WORD.findall(_STOP))
"""Words that say what kind of thing a label is, or join its other words; in quotes they count."""


def stem(word: str) -> str:
    """What the usual inflections of an English word have in common, roughly: "files", "filing", "filed" -> "fil"."""
    word = word.lower().partition("'")[0].partition("’")[0]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    for ending in ("ing", "ed"):
        rest = word[: -len(ending)]
        if word.endswith(ending) and len(rest) > 2 and any(vowel in rest for vowel in "aeiouy"):
            word = rest[:-1] if rest[-1] == rest[-2] and rest[-1] not in "lsz" else rest
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


@dataclass(frozen=True)
class Said:
    """A label's words."""

    quoted: tuple[str, ...]
    stems: tuple[str, ...]
    """Of the words outside quotes, those of STOP left out."""


def read(text: str) -> Said:
    """The words of a label that may name tokens."""
    text = MORE.sub(" ", OUTPUT.sub("", text))
    quoted = [next(group for group in match.groups() if group) for match in QUOTED.finditer(text)]
    words = WORD.findall(QUOTED.sub(" ", text))
    stems = [stem(word) for word in words if word.lower() not in STOP and (len(word) > 1 or word.isdigit())]
    return Said(tuple(dict.fromkeys(quoted)), tuple(dict.fromkeys(stems)))


def usual_stems(texts: Iterable[str]) -> frozenset[str]:
    """Stems that stand in so many of some labels that they belong to their form; none where labels are few."""
    labels = [read(text).stems for text in texts]
    if len(labels) < ENOUGH_LABELS:
        return frozenset()
    counts = Counter(each for stems in labels for each in stems)
    return frozenset(each for each, count in counts.items() if count > USUAL * len(labels))


class Lexicon:
    """Finds the tokens of some passages that labels name."""

    def __init__(self, tagged: Tagged, ignored: frozenset[str] = frozenset()) -> None:
        """ignored: stems that name nothing outside quotes."""
        self._tagged = tagged
        self._ignored = ignored

    def holds(self, text: str) -> Mask | None:
        """(N,) whether each token is named by a label; None where it names none that occurs.

        A word names the tokens of each of its inflections, whatever their case; what is quoted names tokens and words
        spelt so, leading spaces aside.
        """
        said = read(text)
        words, tokens = self._named(said)
        if not len(words) and not len(tokens):
            return None
        view = self._tagged.view
        runs = view.text.words
        of_word = np.zeros(len(runs.strings) + 1, np.bool_)
        of_word[words] = True
        of_token = np.zeros(len(self._tagged.passages.texts), np.bool_)
        of_token[tokens] = True
        on_words = np.append(of_word[runs.string], False)[view.word]
        found: Mask = on_words | of_token[self._tagged.passages.token]
        return found

    def _named(self, said: Said) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of words and ids of tokens that a label names."""
        words, tokens = list[int](), list[int]()
        for each in said.stems:
            if each not in self._ignored:
                words += self._by_stem.get(each, ())
                tokens += self._by_shown.get(each, ()) if each.isdigit() else ()
        for each in said.quoted:
            found = self._exactly(each)
            if not any(found):
                pieces = [self._exactly(part) for part in PARTS.findall(each)]
                found = ([n for piece in pieces for n in piece[0]], [n for piece in pieces for n in piece[1]])
            words += found[0]
            tokens += found[1]
        return np.unique(np.array(words, np.int64)), np.unique(np.array(tokens, np.int64))

    def _exactly(self, text: str) -> tuple[Sequence[int], Sequence[int]]:
        number = self._by_word.get(text)
        return ([] if number is None else [number]), self._by_shown.get(text.strip(" ") or text, ())

    @cached_property
    def _by_word(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self._tagged.view.text.words.strings)}

    @cached_property
    def _by_stem(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, word in enumerate(self._tagged.view.text.words.strings):
            found.setdefault(stem(word), []).append(number)
        return found

    @cached_property
    def _by_shown(self) -> dict[str, list[int]]:
        """Token ids by their text as labels quote it."""
        found: dict[str, list[int]] = {}
        texts = self._tagged.passages.texts
        for token in np.unique(self._tagged.passages.token).tolist():
            found.setdefault(quote(texts[token])[1:-1], []).append(token)
        return found
