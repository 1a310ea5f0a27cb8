"""The planted concept check's own parts: predicates on cases made by hand, texts, and the truth by counting."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.planted.concepts import BANK, JUDGED, N_JUDGED, Concept, token_mask
from benchmarks.planted.documents import Marked
from benchmarks.planted.source import Source
from benchmarks.planted.texts import Snippets
from benchmarks.planted.truth import Tally, Truth, _or_more
from tests.small_ingest import random_dictionary, request, save_corpus, save_model
from tests.small_ingest import texts as small_texts

CODE = '''\
"""Reads a file, e.g. http://a.org/x.

More of it: (an aside) isn't 12.
"""
import os.path as p
from re import sub

@sub.wrap(1)
class MyThing(Base, object):
    LIMIT = 0x1F

    def read_all(self, name, size: int = -1, *rest):
        # First of all.
        if size >= 2 and not isinstance(name, (str, bytes)):
            raise ValueError("bad %s\\n" % name)
        self._size += 1.5
        for line in rest[0]:
            yield lambda: {"key": None}
        try:
            return f"{size}b" + b"x"
        except OSError as error:
            print(error, file=p.__name__, camelCase=size)

'''
PROSE = """\
Title Words
===========

* The `thing` must not end.

>>> print(1)
"""

KEYWORDS = "import as from import class def if and not raise for in yield lambda try return except as"

CASES: list[tuple[str, list[str]]] = [
    ("keyword", KEYWORDS.split()),
    ("None, True, False", ["None"]),
    ("and, or, not", ["and", "not"]),
    ("self", ["self", "self"]),
    ("name after def", ["read_all"]),
    ("name after class", ["MyThing"]),
    ("name after self.", ["_size"]),
    ("name after as", ["p", "error"]),
    ("name after raise", ["ValueError"]),
    ("first of a returned value", ['f"{size}b"']),
    ("exception name", ["ValueError", "OSError"]),
    ("builtin function", ["object", "int", "isinstance", "str", "bytes", "print"]),
    ("dunder name", ["__name__"]),
    ("underscore name", ["_size"]),
    ("camelCase name", ["camelCase"]),
    ("CapWords name", ["MyThing", "ValueError"]),
    ("constant name", ["LIMIT"]),
    ("snake_case name", ["read_all"]),
    ("parameter name", ["name", "size", "rest"]),
    ("keyword argument name", ["file", "camelCase"]),
    ("module name", ["os", "path", "re"]),
    ("opening bracket", list("((((((([{")),
    ("closing bracket", list(")))))))]}")),
    ("comma", [","] * 8),
    ("dot", list("....")),
    ("block colon", [":"] * 6),
    ("assignment sign", ["="]),
    ("augmented assignment", ["+="]),
    ("comparison sign", [">="]),
    ("arithmetic sign", ["-", "*", "%", "+"]),
    ("percent formatting", ["%"]),
    ("import line", ["import os.path as p", "from re import sub"]),
    ("decorator line", ["@sub.wrap(1)"]),
    ("parameter default", ["-1"]),
    ("type annotation", ["int"]),
    ("base class", ["Base", "object"]),
    ("loop variable", ["line"]),
    ("subscript", ["0"]),
    ("condition", ["size >= 2 and not isinstance(name, (str, bytes))"]),
    ("caught exception", ["OSError"]),
    ("lambda", ['lambda: {"key": None}']),
    ("dict key", ['"key"']),
    ("isinstance type", ["(str, bytes)"]),
    ("hexadecimal number", ["0x1F"]),
    ("whole number", ["1", "1", "2", "0"]),
    ("decimal fraction", ["1.5"]),
    ("string", ["bad %s\\n", "key", "{size}b", "x"]),
    ("bytes literal", ["x"]),
    ("f-string", ["{size}b"]),
    ("placeholder in a string", ["%s", "{size}"]),
    ("escape in a string", ["\\n"]),
    ("docstring", ["Reads a file, e.g. http://a.org/x.\n\nMore of it: (an aside) isn't 12.\n"]),
    ("docstring's first line", ["Reads a file, e.g. http://a.org/x."]),
    ("comment", [" First of all."]),
    ("first word of a comment", ["First"]),
    ("capitalised word in prose", ["Reads", "More", "First"]),
    ("negation in prose", ["n't"]),
    ("number in prose", ["12"]),
    ("aside in prose", ["(an aside)"]),
    ("end of a sentence", [".", "."]),
    ("URL", ["http://a.org/x."]),
    ("all-caps word", ["LIMIT"]),
]
IN_PROSE: list[tuple[str, list[str]]] = [
    ("keyword", []),
    ("docstring", []),
    ("capitalised word in prose", ["Title", "Words", "The"]),
    ("article in prose", ["The"]),
    ("modal verb in prose", ["must"]),
    ("negation in prose", ["not"]),
    ("quoted word in prose", ["`thing`"]),
    ("section underline", ["==========="]),
    ("bullet", ["*"]),
    ("doctest prompt", [">>>"]),
    ("doctest line", ["print(1)"]),
    ("number in prose", ["1"]),
]


@pytest.mark.parametrize(("name", "expected"), CASES, ids=[name for name, _ in CASES])
def test_a_predicate_finds_what_it_says_in_code(name: str, expected: list[str]) -> None:
    assert found(name, Source.of_code(CODE)) == sorted(expected)


@pytest.mark.parametrize(("name", "expected"), IN_PROSE, ids=[name for name, _ in IN_PROSE])
def test_a_predicate_finds_what_it_says_in_prose(name: str, expected: list[str]) -> None:
    assert found(name, Source.of_prose(PROSE)) == sorted(expected)


def test_columns_are_of_characters_not_of_bytes() -> None:
    assert found("parameter default", Source.of_code("def é(ü='ß', y=7): 'ä'\n")) == ["'ß'", "7"]


def test_a_text_that_is_no_code_raises() -> None:
    with pytest.raises(SyntaxError):
        Source.of_code("def (:\n")


def test_a_token_counts_when_a_visible_character_of_it_lies_in_a_span() -> None:
    source = Source.of_code("x  = (1)\n")
    offsets = np.array([[0, 1], [1, 3], [3, 6], [6, 8], [8, 9]])  # "x", "  ", "= (", "1)", "\n"
    masks = {
        name: token_mask(concept(name), source, offsets).tolist() for name in ("assignment sign", "closing bracket")
    }
    assert masks == {
        "assignment sign": [False, False, True, False, False],
        "closing bracket": [False, False, False, True, False],
    }


def test_a_concept_of_white_space_counts_blank_tokens_alone() -> None:
    source = Source.of_code("if x:\n    y\n\n")
    offsets = np.array([[0, 5], [5, 9], [9, 11], [11, 12], [12, 13]])  # "if x:", "\n   ", " y", "\n", "\n"
    assert token_mask(concept("indentation"), source, offsets).tolist() == [False, True, False, False, False]
    assert token_mask(concept("blank line"), source, offsets).tolist() == [False, False, False, False, True]


def test_the_judged_concepts_are_fifty_of_the_bank() -> None:
    names = [each.name for each in BANK]
    assert len(names) == len(set(names))
    assert len(JUDGED) == N_JUDGED
    assert not JUDGED.difference(names)


def test_texts_end_in_the_concept_or_hold_nothing_of_it() -> None:
    words = [f"w{i}" if i % 10 else "HIT" for i in range(400)]
    document = split("doc", words)
    texts = Snippets([document], Words())  # type: ignore[arg-type]
    positive, negative = texts.contrast(0, seed=3, n=8)
    assert (positive, negative) == texts.contrast(0, seed=3, n=8)
    assert len(positive) == len(negative) == 8
    assert all(text.split()[-1] == "HIT" and 5 <= len(text.split()) <= 40 for text in positive)
    fewest = min(text.split().count("HIT") for text in negative)
    assert all(text.split().count("HIT") <= fewest + 2 for text in negative)
    assert len(set(positive)) == len(set(negative)) == 8


def test_the_truth_is_what_counting_token_by_token_gives() -> None:
    draw = np.random.default_rng(0)
    activation = draw.choice([0, 0, 1.5, 3.2, 9.9], (60, 3))
    marks = draw.random((60, 2)) < 0.4
    halves = [(activation[:30], marks[:30]), (activation[30:], marks[30:])]
    truth = Truth.of(*(counted(*half) for half in halves))
    for c in range(2):
        for f in range(3):
            share = max(
                range(10), key=lambda step: (f1(halves[0][0][:, f] >= max(step, 0.1), halves[0][1][:, c]), -step)
            )
            fires = halves[1][0][:, f] >= max(share, 0.1)
            assert truth.f1[c, f] == pytest.approx(f1(fires, halves[1][1][:, c]))
            assert truth.precision[c, f] == pytest.approx(marks[activation[:, f] > 0, c].mean())


def test_the_most_precise_order_that_none_beats_wins() -> None:
    from benchmarks.planted import _winner
    from benchmarks.planted.ranks import ORDERS, Order, Placed

    def placed(order: Order, ranks: tuple[int, int], precision: float) -> list[Placed]:
        return [Placed(order, 0, seed, rank, precision) for seed, rank in enumerate(ranks)]

    often, seldom, level = ORDERS[:3]
    asked = {often: placed(often, (1, 5), 0.2), seldom: placed(seldom, (6, 9), 0.9), level: placed(level, (6, 1), 0.3)}
    assert _winner(asked, level).measured == f"{level.title}; {level.title} wins"
    assert [_winner(asked, default).met for default in (often, seldom, level)] == [False, False, True]


def test_cosines_are_ranked_as_correlate_ranks_them(tmp_path: Path) -> None:
    from benchmarks.planted.ranks import add, rankings
    from featuredb.database import open as open_store

    model, dictionary = save_model(tmp_path / "model"), random_dictionary(tmp_path / "top")
    documents = small_texts(80)
    with open_store(tmp_path / "store.fdb", create=True) as db:
        db.ingest(request(model, [dictionary], save_corpus(tmp_path / "corpus.jsonl", documents)))
        concept = add(db, tmp_path, ([f"{text} seven" for text in documents[:8]], documents[8:16]), "lda")
        for by, features in rankings(db, concept, ["encoder", "auroc", "cosine", "correlation", None], 100):
            assert features == [row.index for row in db.correlate(concept, by=by, limit=100)]
            assert len(features) > 5


def concept(name: str) -> Concept:
    return next(each for each in BANK if each.name == name)


def found(name: str, source: Source) -> list[str]:
    return sorted(source.text[start:end] for start, end in concept(name).spans(source))


def f1(says: np.ndarray, is_one: np.ndarray) -> float:
    return float(2 * (says & is_one).sum() / (says.sum() + is_one.sum()))


def counted(activation: np.ndarray, marks: np.ndarray) -> Tally:
    """The tally of activations whose largest is 10."""
    firings, hits = np.zeros((3, 10)), np.zeros((2, 3, 10))
    for token, feature in zip(*np.nonzero(activation), strict=True):
        step = int(activation[token, feature])
        firings[feature, step] += 1
        hits[:, feature, step] += marks[token]
    return Tally(
        _or_more(firings.reshape(-1)), _or_more(hits.reshape(2, -1)), marks.sum(axis=0).astype(float), len(marks)
    )


class Words:
    """A model whose tokens are words."""

    def encode_text(self, text: str) -> np.ndarray:
        return ids(text.split())


def ids(words: Iterable[str]) -> np.ndarray:
    return np.array([int(word.removeprefix("w")) if word != "HIT" else 0 for word in words], np.int32)


def split(name: str, words: list[str]) -> Marked:
    text = " ".join(words)
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    starts = np.concatenate([[0], ends[:-1]])
    marks = np.array([[word == "HIT"] for word in words])
    return Marked(name, text, ids(words), np.stack([starts, ends], axis=1), marks)
