"""Labels that others published: whose they are, what cannot be used of them, and that they come once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from featuredb.database import FeatureDB
from featuredb.labels.publication import PublishedFeature, PublishedLabel, PublishedScore
from featuredb.labels.publish import import_publication
from featuredb.store.catalog import LabelRow, ScoreRow
from featuredb.store.store import Store
from tests.small_publications import RICH, WORDS, publication, state
from tests.small_store import build


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


def labels(store: Store) -> list[LabelRow]:
    with store.reading() as session:
        return list(session.scalars(select(LabelRow).order_by(LabelRow.id)))


def scores(store: Store) -> list[ScoreRow]:
    with store.reading() as session:
        return list(session.scalars(select(ScoreRow).order_by(ScoreRow.id)))


class TestLabels:
    def test_provenance_says_whose_a_label_is(self, store: Store) -> None:
        import_publication(store, publication(RICH))
        (row,) = labels(store)
        assert (row.text, row.labeler, row.status, row.author) == ("capital letters", "someone:auto", "proposed", None)
        assert row.provenance == {
            "publisher": "someone",
            "publication": "tiny-published",
            "labeler": "auto",
            "model": "a-model",
            "extra": {"id": "e1"},
        }
        assert row.created_at == datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC)
        (score,) = scores(store)
        assert (score.scorer, score.value, score.n, score.failed, score.judge) == (
            "someone:detection",
            0.75,
            40,
            2,
            "j",
        )
        assert (score.low, score.high, score.judge, score.details) == (0.6, 0.9, "j", {"f1": 0.7})

    def test_a_date_in_the_future_does_not_win(self, store: Store) -> None:
        later = PublishedLabel("later", "auto", extra={"created_at": "2999-01-01T00:00:00"})
        import_publication(store, publication(PublishedFeature(0, labels=(later,))))
        assert labels(store)[0].created_at <= datetime.now(UTC)

    @pytest.mark.parametrize(
        ("label", "reason"),
        [
            (PublishedLabel("", "auto"), "the label is empty"),
            (PublishedLabel(" \n ", "auto"), "the label is empty"),
            (PublishedLabel("a\x1b[31mb", "auto"), "the label has a control character, U+001B at 1"),
            (PublishedLabel("a\u202eb", "auto"), "the label has a control character, U+202E at 1"),
            (PublishedLabel("x" * 100_000, "auto"), "the label has 100,000 characters"),
            (PublishedLabel("", "auto", extra={"failed": "no answer"}), "no answer"),
        ],
    )
    def test_a_label_that_cannot_be_used_is_a_failed_row(
        self, store: Store, label: PublishedLabel, reason: str
    ) -> None:
        done = import_publication(store, publication(PublishedFeature(0, labels=(label, WORDS))))
        assert (done.n_labels, done.n_failed) == (2, 1)
        failed, kept = labels(store)
        assert (failed.text, failed.status, failed.note) == (None, "failed", reason)
        assert (kept.text, kept.status) == ("capital letters", "proposed")
        assert FeatureDB(store).feature("tiny-published/0").label == "capital letters"

    def test_lines_are_joined_and_html_is_only_text(self, store: Store) -> None:
        texts = (PublishedLabel("two\nlines,\r\n\tindented", "a"), PublishedLabel("<script>alert(1)</script>", "b"))
        import_publication(store, publication(PublishedFeature(0, labels=texts)))
        assert [row.text for row in labels(store)] == ["two lines, indented", "<script>alert(1)</script>"]

    def test_a_figure_that_is_none_has_a_reason(self, store: Store) -> None:
        score = PublishedScore("fuzz", math.nan, n=0, failed=5, details={"reason": "none was answered", "x": 1})
        import_publication(
            store, publication(PublishedFeature(0, labels=(PublishedLabel("a", "auto", scores=(score,)),)))
        )
        (row,) = scores(store)
        assert (row.value, row.reason, row.failed, row.details) == (None, "none was answered", 5, {"x": 1})

    def test_nonsense_beside_a_label_does_not_get_into_its_columns(self, store: Store) -> None:
        details = {"low": "much", "high": 1e300, "seed": -1}
        score = PublishedScore("s\x1b" + "x" * 500, 1.0, n=2**40, failed=-1, details=details)
        extra = {"predicate": "not an object", "created_at": 12, "note": "n" * 9_000}
        label = PublishedLabel("a", "l\n" * 300, model="m" * 900, scores=(score,), extra=extra)
        import_publication(store, publication(PublishedFeature(0, labels=(label,))))
        (row,), (kept,) = labels(store), scores(store)
        assert (row.predicate, len(row.note or ""), len(row.provenance["model"])) == (None, 2_000, 200)
        assert (kept.low, kept.n, kept.failed, kept.seed) == (None, None, None, None)
        assert "\x1b" not in kept.scorer
        assert len(kept.scorer) <= 210


class TestOnceAndAgain:
    def test_importing_twice_adds_nothing(self, store: Store) -> None:
        one = publication(RICH, PublishedFeature(4, labels=(PublishedLabel("", "auto"), WORDS)))
        first = import_publication(store, one)
        assert (first.n_labels, first.n_known, first.n_scores) == (3, 0, 2)
        before = state(store)
        again = import_publication(store, one)
        assert (again.created, again.n_labels, again.n_known, again.n_scores, again.n_scores_known) == (
            False,
            0,
            3,
            0,
            2,
        )
        assert again.warnings == ("3 examples are left: tiny-published keeps those it has",)
        assert state(store) == before

    def test_what_is_new_in_a_later_one_is_added(self, store: Store) -> None:
        import_publication(store, publication(RICH))
        better = PublishedLabel("Capital letters", "auto", model="b-model")
        scored = PublishedLabel("capital letters", "auto", model="a-model", scores=(PublishedScore("fuzz", 0.5),))
        done = import_publication(store, publication(PublishedFeature(2, labels=(better, scored))))
        assert (done.n_labels, done.n_known, done.n_scores) == (1, 1, 1)
        assert [row.label_id for row in scores(store)] == [labels(store)[0].id] * 2

    def test_the_same_label_twice_in_one_publication_is_one(self, store: Store) -> None:
        many = tuple(PublishedFeature(index, labels=(WORDS, WORDS)) for index in range(1_500))
        done = import_publication(store, publication(*many))
        assert (done.n_labels, done.n_known, done.n_scores, done.n_scores_known) == (1_500, 1_500, 1_500, 1_500)
