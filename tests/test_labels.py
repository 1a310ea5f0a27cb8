"""Labels by hand and from files: who said what, which is shown, and files that are taken whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from featuredb.errors import BadInput, NotFound
from featuredb.labels import Imported, add_label, import_labels, labels_of, shown_label, shown_labels
from featuredb.labels.table import MAX_LENGTH, checked_text, shown_ids
from featuredb.search.listing import list_labels
from featuredb.store import FeatureRef, Store
from featuredb.store.catalog import LabelRow, ScoreRow
from featuredb.store.refs import get_dictionary
from tests.small_store import build


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


def n_labels(store: Store) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(LabelRow)) or 0


def scores(store: Store) -> dict[str, list[tuple[str, float | None]]]:
    """The scores of each label that has any, by its text."""
    with store.reading() as session:
        found = session.execute(
            select(LabelRow.text, ScoreRow.scorer, ScoreRow.value).join(LabelRow, LabelRow.id == ScoreRow.label_id)
        )
        kept: dict[str, list[tuple[str, float | None]]] = {}
        for text, scorer, value in found.all():
            kept.setdefault(text or "", []).append((scorer, value))
    return {text: sorted(values) for text, values in sorted(kept.items())}


def label(text: str | None, status: str, day: int) -> LabelRow:
    made = datetime(2026, 1, day, tzinfo=UTC)
    return LabelRow(id=day, text=text, status=status, created_at=made, labeler="x.v1", provenance={})


def test_a_label_by_hand_is_kept_with_its_author(store: Store) -> None:
    before = datetime.now(UTC)
    with store.session() as session:
        add_label(session, "alpha/3", "  capital letters ", author="ada", note="seen in 40 examples")
    with store.reading() as session:
        (kept,) = labels_of(session, FeatureRef("alpha", 3))
    assert (kept.text, kept.author, kept.note) == ("capital letters", "ada", "seen in 40 examples")
    assert (kept.labeler, kept.status, kept.provenance) == ("hand.v1", "verified", {})
    assert before <= kept.created_at <= datetime.now(UTC)


def test_only_features_that_are_there_are_labelled(store: Store) -> None:
    with store.session() as session:
        for ref in ("alpha/8", "gamma/1"):
            with pytest.raises(NotFound):
                add_label(session, ref, "x")
        with pytest.raises(BadInput):
            add_label(session, "alpha", "x")
    assert n_labels(store) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the label is empty"),
        (" \n\t ", "the label is empty"),
        ("a\0b", r"a control character, U\+0000 at 1"),
        ("two\nlines", r"a control character, U\+000A at 3"),
        ("\x1b[31mred", r"a control character, U\+001B at 0"),
        ("a\u202eb", r"a control character, U\+202E at 1"),
        ("a\ud800b", r"a control character, U\+D800 at 1"),
        ("x" * (MAX_LENGTH + 1), "the label has 2,001 characters"),
    ],
)
def test_texts_that_are_no_label(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        checked_text(text)


def test_any_other_text_is_kept_as_it_is(store: Store) -> None:
    for text in ("ARABIC: مرحبا", "日本語", "👩‍👩‍👧", "x" * MAX_LENGTH, "'; drop table label; --", "[bold]x[/]"):
        assert checked_text(text) == text


def test_the_shown_label_is_verified_then_newest() -> None:
    assert shown_label([]) is None
    assert shown_label([label(None, "failed", 9)]) is None
    labels = [label("a", "proposed", 1), label("b", "proposed", 3), label("c", "verified", 2), label(None, "failed", 9)]
    first = shown_label(labels)
    assert first is not None
    assert first.text == "c"
    newest = shown_label([one for one in labels if one.status != "verified"])
    assert newest is not None
    assert newest.text == "b"


def test_many_features_are_asked_at_once(store: Store) -> None:
    with store.session() as session:
        for index, text in ((1, "old"), (1, "new"), (3, "three")):
            add_label(session, f"alpha/{index}", text)
        add_label(session, "beta/1", "other")
    with store.reading() as session:
        alpha = get_dictionary(session, "alpha")
        assert shown_labels(session, alpha.id, range(5_000)) == {1: "new", 3: "three"}
        assert shown_labels(session, alpha.id, []) == {}
        assert [one.text for one in labels_of(session, "alpha/1")] == ["new", "old"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(
    given_labels=st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from(["verified", "proposed", "failed"]), st.integers(1, 4)),
        max_size=20,
    )
)
def test_the_shown_labels_of_a_dictionary_are_those_of_its_features(
    store: Store, given_labels: list[tuple[int, str, int]]
) -> None:
    with store.session() as session:
        session.execute(delete(LabelRow))
        owner = get_dictionary(session, "alpha").id
        for index, status, day in given_labels:
            made = label(None if status == "failed" else f"label of day {day}", status, day)
            made.id, made.dictionary_id, made.feature_index = None, owner, index  # type: ignore[assignment]
            session.add(made)
        session.flush()
        shown = {row.feature_index: row.id for row in session.execute(shown_ids(owner))}
        one_by_one = {index: shown_label(labels_of(session, FeatureRef("alpha", index))) for index in range(8)}
    assert shown == {index: one.id for index, one in one_by_one.items() if one is not None}


class TestImport:
    def test_csv(self, store: Store, tmp_path: Path) -> None:
        file = tmp_path / "labels.csv"
        file.write_text('\ufefffeature,text,note\nalpha/1,"commas, quoted",\nbeta/2,日本,seen\n', encoding="utf-8")
        assert import_labels(store, file, author="ada") == Imported(2, 0)
        with store.reading() as session:
            (one,), (two,) = labels_of(session, "alpha/1"), labels_of(session, "beta/2")
        assert (one.text, one.note, one.author, one.status) == ("commas, quoted", None, "ada", "proposed")
        assert (two.text, two.note) == ("日本", "seen")
        assert two.provenance == {"file": "labels.csv", "row": 3}

    def test_jsonl(self, store: Store, tmp_path: Path) -> None:
        file = tmp_path / "labels.jsonl"
        file.write_text('{"feature": "alpha/1", "text": "a", "rank": 3}\n\n{"feature": "2", "text": "b"}\n')
        assert import_labels(store, file, dictionary="alpha") == Imported(2, 0)
        with store.reading() as session:
            assert [one.text for one in labels_of(session, "alpha/2")] == ["b"]

    @pytest.mark.parametrize(
        ("name", "said"),
        [("a.csv", "feature,label\nalpha/1,a\n"), ("a.jsonl", '{"feature": "alpha/1", "label": "a"}\n')],
    )
    def test_a_column_called_label_is_the_text(self, store: Store, tmp_path: Path, name: str, said: str) -> None:
        (tmp_path / name).write_text(said)
        assert import_labels(store, tmp_path / name) == Imported(1, 0)
        with store.reading() as session:
            assert [one.text for one in labels_of(session, "alpha/1")] == ["a"]

    def test_the_same_file_twice_adds_nothing(self, store: Store, tmp_path: Path) -> None:
        file = tmp_path / "labels.csv"
        file.write_text("feature,text\nalpha/1,a\nalpha/1,a\nalpha/2,b\n")
        assert import_labels(store, file) == Imported(2, 1)
        assert import_labels(store, file) == Imported(0, 3)
        assert import_labels(store, file, author="ada") == Imported(2, 1)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.csv", b"feature,text\nalpha/1,ok\nalpha/99,x\n", "row 3: no feature 99 in 'alpha'"),
            ("a.csv", b"feature,text\nalpha/1,ok\ngamma/1,x\n", "row 3: no dictionary called 'gamma'"),
            ("a.csv", b"feature,text\nalpha/1,ok\n12,x\n", "row 3: '12' does not name a feature"),
            ("a.csv", b"feature,text\nalpha/1,ok\nalpha/2,\n", "row 3: the label is empty"),
            ("a.csv", b'feature,text\nalpha/1,ok\nalpha/2,"a\nb"\n', "row 4: the label has a control character"),
            ("a.csv", b"feature,text\nalpha/1,ok\nalpha/2\n", "row 3: no text"),
            ("a.csv", b"feature,text\nalpha/1,ok\nalpha/2,a,b\n", "row 3: more fields than columns"),
            ("a.csv", b'feature,text\nalpha/1,ok\nalpha/2,"a', "row 3: unexpected end of data"),
            ("a.csv", b"feature,words\nalpha/1,ok\n", "no column 'text'"),
            ("a.csv", b"", "no column 'feature'"),
            ("a.csv", b"feature,text\n", "holds no labels"),
            ("a.csv", b"feature,text\nalpha/1,ok\nalpha/2,\xff\xfe\n", "is not UTF-8"),
            ("a.jsonl", b'{"feature": "alpha/1", "text": "ok"}\n{"feature": "alpha/2"', "row 2: Expecting"),
            ("a.jsonl", b'{"feature": "alpha/1", "text": "ok"}\n[1]\n', "row 2: not an object"),
            ("a.jsonl", b'{"feature": "alpha/1", "text": "ok"}\n{"feature": "alpha/2", "text": 3}\n', "row 2: no text"),
            ("a.jsonl", b'{"feature": "alpha/1", "text": "\xff"}\n', "row 1: "),
            ("a.jsonl", b"[" * 100_000 + b"\n", "row 1: "),
            (
                "a.csv",
                b"feature,text,score\nalpha/1,ok,0.5\nalpha/2,x,1.01\n",
                "row 3: the score '1.01' is not from 0 to 1",
            ),
            ("a.csv", b"feature,text,score\nalpha/1,ok,0.5\nalpha/2,x,-0.1\n", "row 3: the score '-0.1' is not from 0"),
            ("a.csv", b"feature,text,score\nalpha/1,ok,nan\n", "row 2: the score 'nan' is not from 0 to 1"),
            ("a.csv", b"feature,text,score\nalpha/1,ok,high\n", "row 2: the score 'high' is no number"),
            ("a.jsonl", b'{"feature": "alpha/1", "text": "ok", "score": 3}\n', "row 1: the score 3 is not from 0 to 1"),
            ("a.jsonl", b'{"feature": "alpha/1", "text": "ok", "score": true}\n', "row 1: the score True is no number"),
            ("a.jsonl", b'{"feature": "alpha/1", "text": "ok", "score": [1]}\n', "row 1: the score .1. is no number"),
            ("a.txt", b"alpha/1 x", "is neither CSV nor JSONL"),
        ],
    )
    def test_a_bad_row_is_named_and_nothing_is_kept(
        self, store: Store, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises((BadInput, NotFound), match=message):
            import_labels(store, tmp_path / name)
        assert n_labels(store) == 0

    def test_a_stated_score_is_kept_with_its_label(self, store: Store, tmp_path: Path) -> None:
        file = tmp_path / "labels.csv"
        file.write_text("feature,text,score\nalpha/1,a,0.75\nalpha/2,b,\nalpha/3,c, 1 \n")
        assert import_labels(store, file) == Imported(3, 0)
        assert scores(store) == {"a": [("file.v1", 0.75)], "c": [("file.v1", 1.0)]}
        assert import_labels(store, file) == Imported(0, 3)
        assert scores(store) == {"a": [("file.v1", 0.75)], "c": [("file.v1", 1.0)]}

    def test_a_later_score_of_the_same_label_takes_the_earlier_ones_place(self, store: Store, tmp_path: Path) -> None:
        file = tmp_path / "labels.jsonl"
        file.write_text('{"feature": "alpha/1", "text": "a"}\n{"feature": "alpha/2", "text": "b", "score": 0.5}\n')
        import_labels(store, file)
        with store.session() as session:
            other = ScoreRow(label_id=labels_of(session, "alpha/2")[0].id, scorer="detection.v1", value=0.1)
            session.add(other)
        file.write_text(
            '{"feature": "alpha/1", "text": "a", "score": 0}\n{"feature": "alpha/2", "text": "b", "score": 1}\n'
        )
        assert import_labels(store, file) == Imported(0, 2)
        assert scores(store) == {"a": [("file.v1", 0.0)], "b": [("detection.v1", 0.1), ("file.v1", 1.0)]}

    def test_scores_come_with_labels_in_answers(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "labels.csv").write_text("feature,text,score\nalpha/1,a,0.75\nalpha/2,b,\n")
        import_labels(store, tmp_path / "labels.csv")
        one, two = list_labels(store, None)
        assert [(score["scorer"], score["value"], score["low"], score["above_baseline"]) for score in one.scores] == [
            ("file.v1", 0.75, None, None)
        ]
        assert two.scores == ()
        assert list_labels(store, FeatureRef("alpha", 1)) == [one]

    def test_a_large_file_is_taken_in_batches(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("featuredb.labels.files._BATCH", 10)
        rows = [(number % 8, f"label {number % 40}") for number in range(95)]
        file = tmp_path / "labels.csv"
        file.write_text("feature,text\n" + "".join(f"alpha/{index},{text}\n" for index, text in rows))
        assert import_labels(store, file) == Imported(len(set(rows)), 95 - len(set(rows)))
        with store.reading() as session:
            kept = session.execute(select(LabelRow.feature_index, LabelRow.text, LabelRow.provenance)).all()
        assert [(index, text) for index, text, _ in kept] == list(dict.fromkeys(rows))
        assert [said["row"] for _, _, said in kept] == [rows.index(row) + 2 for row in dict.fromkeys(rows)]
        file.write_text(file.read_text() + "alpha/99,x\n")
        with pytest.raises(NotFound, match="row 97"):
            import_labels(store, file)

    def test_two_labels_by_others_are_not_mistaken_for_a_files(self, store: Store, tmp_path: Path) -> None:
        with store.session() as session:
            add_label(session, "alpha/1", "a")
        (tmp_path / "labels.csv").write_text("feature,text,author\nalpha/1,a,\nalpha/1,a,ada\n")
        assert import_labels(store, tmp_path / "labels.csv") == Imported(2, 0)

    def test_no_such_file(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="no file at"):
            import_labels(store, tmp_path / "none.csv")
        (tmp_path / "folder.csv").mkdir()
        with pytest.raises(BadInput, match="cannot be read"):
            import_labels(store, tmp_path / "folder.csv")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(text=st.text(max_size=50))
def test_a_text_is_refused_or_comes_back_from_the_store_as_it_is(store: Store, text: str) -> None:
    try:
        clean = checked_text(text)
    except BadInput:
        return
    with store.session() as session:
        made = add_label(session, "alpha/2", text).id
    with store.reading() as session:
        assert session.scalars(select(LabelRow.text).where(LabelRow.id == made)).all() == [clean]
