"""Labels by keyword: what a user may type, the index that follows every label, and answers against plain Python."""

from __future__ import annotations

import math
import random
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from featuredb.errors import BadInput
from featuredb.labels import add_label, import_labels
from featuredb.search import keyword
from featuredb.search.filters import FeatureFilter, Figures, Scope, read_scope
from featuredb.search.keyword import Query, Term, find_labels, match_expression, parse_query
from featuredb.store import Store
from featuredb.store.catalog import DictionaryRow, LabelRow
from featuredb.store.remove import remove_dictionary
from featuredb.store.segments import SegmentReader
from tests.small_store import build

WORDS = ["capital", "letter", "comma", "self", "import", "café", "x1"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


def indexed(session: Session) -> dict[int, str]:
    """What the index knows, asked word by word; every label of these tests has the word "label"."""
    found = session.execute(text("select rowid, text from label_fts where label_fts match 'label'"))
    return {row[0]: row[1] for row in found}


def labels(session: Session) -> dict[int, str]:
    return {row.id: row.text or "" for row in session.scalars(select(LabelRow).where(LabelRow.text.is_not(None)))}


def scope_of(store: Store, session: Session, wanted: FeatureFilter | None = None) -> Scope:
    reader = SegmentReader(store)
    try:
        return read_scope(session, Figures(reader), wanted or FeatureFilter(all_features=True))
    finally:
        reader.close()


def found(store: Store, query: str, most: int = 100) -> list[tuple[tuple[str, int], int]]:
    with store.reading() as session:
        hits, _ = find_labels(session, scope_of(store, session), parse_query(query), most)
    return [(hit.key, hit.rank) for hit in hits]


class TestParsing:
    @pytest.mark.parametrize(
        ("typed", "alternatives", "excluded"),
        [
            ("capital letters", [["capital", "letters"]], []),
            ('"capital letters"', [["capital letters"]], []),
            ("  a\tb\nc ", [["a", "b", "c"]], []),
            ("a OR b c OR d", [["a"], ["b", "c"], ["d"]], []),
            ("OR a OR OR b OR", [["a"], ["b"]], []),
            ('a -b -"c d"', [["a"]], ["b", "c d"]),
            ("a OR -b", [["a"]], ["b"]),
            ("or Or a", [["or", "Or", "a"]], []),
            ('"OR"', [["OR"]], []),
            ("foo(bar) C++ don't x-ray -- ->", [["foo(bar)", "C++", "don't", "x-ray", "--", "->"]], []),
            ('a"b c"d', [["a", "b c", "d"]], []),
            ('"" a', [["a"]], []),
            ("*", [["*"]], []),
            ("", [], []),
        ],
    )
    def test_words_phrases_alternatives_and_exclusions(
        self, typed: str, alternatives: list[list[str]], excluded: list[str]
    ) -> None:
        query = parse_query(typed)
        assert [[term.text for term in each] for each in query.alternatives] == alternatives
        assert [term.text for term in query.excluded] == excluded

    def test_a_star_makes_a_prefix_of_the_word_before_it(self) -> None:
        terms = [Term("as", True), Term("raise Val", True), Term("a)"), Term("*")]
        assert parse_query('as* "raise Val"* a)** *') == Query((tuple(terms),))

    @pytest.mark.parametrize(
        ("typed", "message"),
        [
            ('say "hello', "the quote before 'hello' is never closed"),
            ('"', "the quote before '' is never closed"),
            ("-a", "'-a' only says what to leave out"),
            ('-a -"b c"', "only says what to leave out"),
            ("x" * 1_001, "the query has 1,001 characters"),
            ("a " * 33, "the query has 33 words"),
        ],
    )
    def test_what_cannot_be_asked_is_said(self, typed: str, message: str) -> None:
        with pytest.raises(BadInput, match=message):
            parse_query(typed)

    def test_every_term_reaches_the_index_in_quotes(self) -> None:
        query = parse_query('foo(bar) "a ""b" c* OR NEAR(x) -AND -d*')
        assert match_expression(query.alternatives, query.excluded) == (
            '(("foo(bar)" AND "a" AND "b" AND "c" *) OR ("NEAR(x)")) NOT ("AND" OR "d" *)'
        )
        assert match_expression(parse_query("++ -> *").alternatives) is None

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
    @given(typed=st.text(max_size=40) | st.text("\"*-()ORANDNOT^:{}+' a\0", max_size=30))
    def test_no_text_is_an_error_of_the_databases(self, store: Store, typed: str) -> None:
        try:
            query = parse_query(typed)
        except BadInput:
            return
        with store.reading() as session:
            find_labels(session, scope_of(store, session), query, 10)


class TestIndex:
    def test_it_follows_every_change_in_the_changes_own_transaction(self, store: Store) -> None:
        with store.session() as session:
            first = add_label(session, "alpha/1", "the first label").id
            assert indexed(session) == {first: "the first label"}  # before the commit, in the same transaction
            with store.reading() as other:
                assert indexed(other) == {}
        with store.session() as session:
            row = session.get_one(LabelRow, first)
            row.text = "another label"
            session.flush()
            assert found_ids(session, "first") == set()
            assert found_ids(session, "another") == {first}
            session.delete(row)
            session.flush()
            assert indexed(session) == {}

    def test_what_is_rolled_back_is_never_found(self, store: Store) -> None:
        def work() -> None:
            with store.session() as session:
                add_label(session, "alpha/1", "a label that never was")
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            work()
        with store.reading() as session:
            assert indexed(session) == labels(session) == {}

    def test_an_import_and_a_removal_are_followed(self, store: Store, tmp_path: Path) -> None:
        file = tmp_path / "labels.csv"
        file.write_text("feature,text\nalpha/1,label one\nalpha/2,label two\nbeta/1,label three\n")
        import_labels(store, file)
        with store.reading() as session:
            assert sorted(indexed(session).values()) == ["label one", "label three", "label two"]
        file.write_text("feature,text\nalpha/3,label four\nalpha/99,label five\n")
        with pytest.raises(Exception, match="no feature 99"):
            import_labels(store, file)
        remove_dictionary(store, "alpha")
        with store.reading() as session:
            assert list(indexed(session).values()) == ["label three"]
            assert indexed(session) == labels(session)

    def test_failed_labels_are_not_in_it(self, store: Store) -> None:
        with store.session() as session:
            owner = session.scalars(select(DictionaryRow).where(DictionaryRow.name == "alpha")).one()
            session.add(
                LabelRow(
                    dictionary_id=owner.id, feature_index=1, text=None, labeler="x", status="failed", provenance={}
                )
            )
        with store.reading() as session:
            assert session.scalar(text("select count(*) from label_fts_docsize")) == 0

    def test_it_is_whole_after_a_thousand_changes(self, store: Store) -> None:
        draw = random.Random(0)
        with store.session() as session:
            for number in range(300):
                add_label(session, f"alpha/{number % 8}", f"label {draw.choice(WORDS)} {number}")
            session.execute(delete(LabelRow).where(LabelRow.id % 3 == 0))
        with store.reading() as session:
            assert indexed(session) == labels(session)
        with store.session() as session:  # FTS5's own check raises where index and labels differ
            session.execute(text("insert into label_fts (label_fts, rank) values ('integrity-check', 1)"))

    def test_labels_that_change_are_followed(self, store: Store) -> None:
        draw = random.Random(0)
        with store.session() as session:
            for number in range(300):
                add_label(session, f"alpha/{number % 8}", f"label {draw.choice(WORDS)} {number}")
            session.execute(delete(LabelRow).where(LabelRow.id % 3 == 0))
            for row in session.scalars(select(LabelRow).where(LabelRow.id % 5 == 0)):
                row.text = f"label changed {row.id}"
        with store.reading() as session:
            assert indexed(session) == labels(session)


def found_ids(session: Session, match: str) -> set[int]:
    return set(session.scalars(text("select rowid from label_fts where label_fts match :match"), {"match": match}))


def fill(store: Store, n: int, seed: int = 0, words: list[str] = WORDS) -> dict[int, tuple[tuple[str, int], str]]:
    """n labels of some words for features of both dictionaries: by number, the feature and the text."""
    draw = random.Random(seed)
    kept = {}
    with store.session() as session:
        for _ in range(n):
            name = draw.choice(["alpha", "beta"])
            key = (name, draw.randrange(5))
            said = " ".join(draw.choices(words, k=draw.randint(1, 5)))
            kept[add_label(session, f"{name}/{key[1]}", said).id] = (key, said)
    return kept


def matches(query: Query, said: str) -> bool:
    """Whether a label of unstemmed words has what is asked for, in plain Python."""
    there = said.split()

    def has(term: Term) -> bool:
        wanted = term.text.lower().split()
        windows = [there[at : at + len(wanted)] for at in range(len(there) - len(wanted) + 1)]
        if term.prefix:
            return any(one[:-1] == wanted[:-1] and one[-1].startswith(wanted[-1]) for one in windows)
        return wanted in windows

    return any(all(map(has, each)) for each in query.alternatives) and not any(map(has, query.excluded))


@st.composite
def typed_queries(draw: st.DrawFn) -> str:
    word = st.sampled_from(WORDS)
    term = word | st.tuples(word, word).map(lambda pair: f'"{pair[0]} {pair[1]}"') | word.map(lambda one: one[:3] + "*")
    parts = draw(st.lists(term | st.just("OR"), min_size=1, max_size=5)) + [draw(term)]
    return " ".join(parts + [f"-{one}" for one in draw(st.lists(term, max_size=2))])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(typed=typed_queries())
def test_the_features_found_are_those_whose_labels_have_the_words(
    tmp_path_factory: pytest.TempPathFactory, typed: str
) -> None:
    store, kept = shared_store(tmp_path_factory)
    query = parse_query(typed)
    expected = {key for key, said in kept.values() if matches(query, said)}
    assert {key for key, _ in found(store, typed)} == expected


_SHARED: list[tuple[Store, dict[int, tuple[tuple[str, int], str]]]] = []


def shared_store(factory: pytest.TempPathFactory) -> tuple[Store, dict[int, tuple[tuple[str, int], str]]]:
    if not _SHARED:
        store = build(factory.mktemp("keyword") / "small.fdb")
        # Words that Porter's stemmer leaves alone, or the plain Python would have to stem as well.
        _SHARED.append((store, fill(store, 40)))
    return _SHARED[0]


def test_case_endings_and_accents_do_not_count(store: Store) -> None:
    with store.session() as session:
        add_label(session, "alpha/1", "Capitalized CAFÉS and importing")
    for typed in ("capitals", "cafe", "Café", "IMPORT", "imports", "capit*", '"cafés AND importing"', "and -comma"):
        assert found(store, typed) == [(("alpha", 1), 1)], typed
    for typed in ("cap", "comma", '"importing cafés"', "capital -import"):
        assert found(store, typed) == [], typed


def test_the_order_is_that_of_bm25(store: Store) -> None:
    """Against the formula, k1 = 1.2 and b = 0.75, with the least idf that FTS5 allows."""
    kept = fill(store, 60, seed=3)
    texts = {number: said.split() for number, (_, said) in kept.items()}
    mean = sum(map(len, texts.values())) / len(texts)

    def score(words: list[str], said: list[str]) -> float:
        total = 0.0
        for word in words:
            n = sum(word in other for other in texts.values())
            idf = max(math.log((len(texts) - n + 0.5) / (n + 0.5)), 1e-6)
            often = said.count(word)
            total += idf * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(said) / mean))
        return total

    best: dict[tuple[str, int], float] = {}
    for number, (key, _) in kept.items():
        if {"self", "comma"} <= set(texts[number]):
            best[key] = max(best.get(key, -1), score(["self", "comma"], texts[number]))
    hits = found(store, "self comma")
    assert {key for key, _ in hits} == set(best)
    assert [round(best[key], 9) for key, _ in hits] == sorted(
        (round(value, 9) for value in best.values()), reverse=True
    )
    for key, rank in hits:
        assert rank == 1 + sum(value > best[key] + 1e-9 for value in best.values())


def test_any_label_of_a_feature_may_match_but_each_feature_comes_once(store: Store) -> None:
    with store.session() as session:
        for said in ("capital letters at great length and more", "capital letters", "something else"):
            add_label(session, "alpha/2", said)
    assert found(store, "capital") == [(("alpha", 2), 1)]
    with store.reading() as session:
        (hit,), _ = find_labels(session, scope_of(store, session), parse_query("capital"), 5)
        assert session.get_one(LabelRow, hit.label_id).text == "capital letters"


def test_features_that_do_not_pass_are_no_answer_and_take_no_place(store: Store) -> None:
    with store.session() as session:
        for index in range(5):
            add_label(session, f"alpha/{index}", "comma")
            add_label(session, f"beta/{index}", "comma after something longer")
    with store.reading() as session:
        scope = scope_of(store, session, FeatureFilter(dictionaries=("beta",), all_features=True))
        hits, _ = find_labels(session, scope, parse_query("comma"), 2)
    assert [(hit.key, hit.rank) for hit in hits][:2] == [(("beta", 0), 1), (("beta", 1), 1)]


class TestVeryCommonWords:
    @pytest.fixture
    def bounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keyword, "RANKED", 50)
        monkeypatch.setattr(keyword, "SOME", 20)

    def fill(self, store: Store) -> None:
        with store.session() as session:
            for number in range(200):
                add_label(session, f"alpha/{number % 8}", "comma " + "x " * (number % 7))
            add_label(session, "beta/3", "comma rare and long, so that it comes last by length")

    @pytest.mark.usefixtures("bounds")
    def test_some_are_looked_at_and_that_is_said(self, store: Store) -> None:
        self.fill(store)
        with store.reading() as session:
            hits, remark = find_labels(session, scope_of(store, session), parse_query("comma"), 2)
            said = session.get_one(LabelRow, hits[0].label_id).text
        assert remark is not None
        assert re.fullmatch(r"201 labels match; \d+ of them were looked at, the shortest first: add a word", remark)
        assert said == "comma"

    @pytest.mark.usefixtures("bounds")
    def test_where_the_filter_lets_few_pass_all_are_looked_at(self, store: Store) -> None:
        self.fill(store)
        with store.reading() as session:
            scope = scope_of(store, session, FeatureFilter(dictionaries=("beta",), all_features=True))
            hits, remark = find_labels(session, scope, parse_query("comma"), 2)
        assert [hit.key for hit in hits] == [("beta", 3)]
        assert remark is None

    @pytest.mark.usefixtures("bounds")
    def test_a_rare_alternative_comes_first(self, store: Store) -> None:
        self.fill(store)
        assert found(store, "comma OR rare", most=2)[0] == (("beta", 3), 1)


def test_the_plan_begins_at_the_index_and_sorts_nothing_itself(store: Store) -> None:
    from featuredb.store import fulltext

    with sqlite3.connect(store.paths.catalog) as connection:
        for statement in (fulltext._BEST, fulltext._SPREAD, fulltext._COUNT):
            plan = connection.execute(f"explain query plan {statement.text}", {"match": "a", "most": 1, "step": 1})
            steps = [row[3] for row in plan]
            assert "VIRTUAL TABLE" in steps[0]
            assert not any("TEMP B-TREE" in step or step.startswith("SCAN l ") for step in steps), steps
