"""Concepts made of others: the arithmetic, what the expressions may be, and what they leave out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featuredb
from featuredb import FeatureDB
from featuredb.concepts.catalog import Made, keep
from featuredb.concepts.expression import names, parse, work_out
from featuredb.concepts.texts import Texts
from featuredb.concepts.vectors import read_vectors
from featuredb.errors import BadInput, FeatureDBError, NotFound

A, B = np.array([3.0, 4, 0], dtype=np.float32), np.array([1.0, 0, 2], dtype=np.float32)
FIRST, SECOND = "layers.0.resid_post", "layers.1.resid_post"


def made(name: str, **more: Any) -> Made:
    settings: dict[str, Any] = {"token": "mean", "chat": False}
    return Made(name=name, **{"method": "mean-difference", "figures": {}, "settings": settings} | more)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[FeatureDB]:
    with featuredb.open(tmp_path / "store.fdb", create=True) as db:
        texts = Texts(("yes", "yea", "aye"), ("no", "nay"))
        figures = {hook: {"auroc": 0.75, "n_positive": 3, "n_negative": 2} for hook in (FIRST, SECOND)}
        both = {"model": "tiny", "fingerprint": "f00d"}
        keep(db.store, made("a", by_hook={FIRST: A, SECOND: 2 * A}, texts=texts, figures=figures, **both))
        keep(db.store, made("b.2-c", by_hook={FIRST: B, "layers.2.resid_pre": 3 * B, "embed": B}, **both))
        keep(db.store, made("only", by_hook={SECOND: B}))
        keep(db.store, made("other", by_hook={FIRST: A}, model="tiny", fingerprint="beef"))
        yield db


def at(db: FeatureDB, name: str, hook: str) -> Any:
    return read_vectors(db.store, name).by_hook[hook]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a", A),
        ("a - 0.5*b.2-c", A - 0.5 * B),
        ("a -0.5 * `b.2-c`", A - 0.5 * B),
        ("-a + 2 * (a - b.2-c) / 4", -A + (A - B) / 2),
        ("unit(a) - unit(b.2-c)", A / 5 - B / np.sqrt(5)),
        ("orth(a, b.2-c)", A - 3 / 5 * B),
        ("1e1 * a * .5 - -a", 6 * A),
        ("(2 - 1) * a", A),
    ],
)
def test_the_arithmetic_is_numpys(db: FeatureDB, expression: str, expected: Any) -> None:
    row = db.concepts.combine("new", expression)
    assert row.hooks[0] == FIRST
    assert at(db, "new", FIRST) == pytest.approx(expected, rel=1e-6)
    assert row.settings is not None
    assert row.settings["expression"] == expression
    assert (row.method, row.model) == ("combination", "tiny")


def test_it_stands_at_common_hooks_by_any_of_their_names(db: FeatureDB) -> None:
    row = db.concepts.combine("sum", "a + b.2-c")
    assert row.hooks == (FIRST, SECOND)  # layers.2.resid_pre is the same tensor
    assert at(db, "sum", SECOND) == pytest.approx(2 * A + 3 * B)
    assert row.notes == ("only some of the concepts have embed: left out",)
    assert (row.n_positive, row.n_negative, row.auroc) == (0, 0, None)


def test_a_copy_is_the_same_to_the_bit_and_keeps_texts_and_figures(db: FeatureDB) -> None:
    row = db.concepts.combine("copy", "a")
    assert at(db, "copy", SECOND).tobytes() == (2 * A).tobytes()
    assert (row.positive, row.negative, row.auroc) == (("yes", "yea", "aye"), ("no", "nay"), 0.75)
    assert read_vectors(db.store, "copy").texts == Texts(("yes", "yea", "aye"), ("no", "nay"))


def test_turned_round_its_sides_are_swapped(db: FeatureDB) -> None:
    row = db.concepts.combine("anti", "-2*a")
    assert (row.positive, row.negative, row.auroc) == (("no", "nay"), ("yes", "yea", "aye"), 0.75)


def test_turned_round_at_some_hooks_alone_it_has_no_texts(db: FeatureDB) -> None:
    row = db.concepts.combine("odd", "a - 7*unit(a)")
    assert (row.positive, row.negative, row.auroc) == ((), (), None)


@pytest.mark.parametrize(
    ("expression", "kind", "said"),
    [
        ("a - a", BadInput, f"the expression is zero at {FIRST}"),
        ("orth(a, 2*a)", BadInput, "the expression is zero"),
        ("0*a", BadInput, "the expression is zero"),
        ("a * b.2-c", BadInput, "two directions cannot be multiplied"),
        ("2 / a", BadInput, "nothing can be divided by a direction"),
        ("a / (1 - 1)", BadInput, "divides by 0"),
        ("a + 1", BadInput, "a number cannot be added to a direction"),
        ("unit(3) * a", BadInput, r"unit\(\) takes a direction, not the number 3"),
        ("unit(a - a)", BadInput, "a part of the expression is zero"),
        ("orth(a, 0*b.2-c)", BadInput, "a part of the expression is zero"),
        ("2 + 3", BadInput, "names no concept"),
        ("orth(a, a) * 0 + 3", BadInput, "a number cannot be added"),
        ("1e300 * 1e300 * a", BadInput, "too large"),
        ("1e39 * a", BadInput, "too large"),
        ("1e999 * 0 * a", BadInput, "too large"),
        ("a +", BadInput, "ends too soon"),
        ("", BadInput, "ends too soon"),
        ("a b.2-c", BadInput, "cannot be read at 'b.2-c'"),
        ("(a", BadInput, "ends too soon"),
        ("orth(a)", BadInput, r"cannot be read at '\)'"),
        ("a; import os", BadInput, "cannot be read at '; import os'"),
        ("__import__('os')", BadInput, "cannot be read at"),
        ("a ** 2", BadInput, "cannot be read at '\\*'"),
        ("a" * 3000, BadInput, "has 3,000 characters"),
        ("(" * 100 + "a", BadInput, "nested more than 50 deep"),
        ("-" * 100 + "a", BadInput, "nested more than 50 deep"),
        ("a - only - other", BadInput, "different models"),
        ("b.2-c + other", BadInput, "different models"),
        ("orth(other, only)", BadInput, "no hook in common"),
        ("aa", NotFound, "no concept called 'aa'"),
        ("`a b`", NotFound, "no concept called 'a b'"),
    ],
)
def test_what_has_no_value_is_refused_and_nothing_is_kept(
    db: FeatureDB, expression: str, kind: type[FeatureDBError], said: str
) -> None:
    before = db.concepts.ls()
    with pytest.raises(kind, match=said):
        db.concepts.combine("new", expression)
    assert db.concepts.ls() == before


def test_a_minus_without_spaces_is_explained(db: FeatureDB) -> None:
    with pytest.raises(NotFound) as caught:
        db.concepts.combine("new", "a-b.2-c")
    assert caught.value.hint == "to subtract, write a - b.2-c, with spaces"


def test_vectors_of_other_widths_do_not_add_up(db: FeatureDB) -> None:
    keep(db.store, made("wide", by_hook={FIRST: np.ones(5, dtype=np.float32)}))
    with pytest.raises(BadInput, match="'a' has 3 numbers and 'wide' has 5 numbers"):
        db.concepts.combine("new", "a + wide")


def test_a_name_that_is_taken_is_replaced_on_request_alone(db: FeatureDB) -> None:
    with pytest.raises(BadInput, match="there is a concept 'a' already"):
        db.concepts.combine("a", "2*a")
    row = db.concepts.combine("a", "2*a", replace=True)
    assert at(db, "a", FIRST) == pytest.approx(2 * A)
    assert row.positive == ("yes", "yea", "aye")
    assert [each.concept for each in db.concepts.ls()] == ["a", "b.2-c", "only", "other"]


@given(st.text(alphabet="ab 12.*/+-()`,uniteorh", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        part = parse(text)
        work_out(part, {name: {"h": np.array([1.0, 2])} for name in names(part)})
    except FeatureDBError:
        return


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9))
def test_numbers_follow_the_usual_order(a: int, b: int, c: int) -> None:
    text = f"({a}) - ({b}) * ({c}) / ({c}) - ({b}) + ({a})"
    assert work_out(parse(text), {}) == pytest.approx(eval(text))
