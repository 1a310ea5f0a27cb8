"""Labels made and scored: what is asked, what is kept, how a run goes on, and which label is shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

import featuredb
from featuredb.cli.main import main
from featuredb.errors import BadInput, NotFound, PluginFailed
from featuredb.plugins import Registry
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.store.catalog import LabelRow, ScoreRow
from tests.small_ingest import N_FEATURES, small_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("labels"))


@pytest.fixture
def db(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[featuredb.FeatureDB]:
    toys = Registry(
        [
            EntryPoint("toy", "tests.toy_labelers:Toy", "featuredb.labelers"),
            EntryPoint("embedding", "tests.toy_labelers:Known", "featuredb.scorers"),
        ]
    )
    monkeypatch.setattr(Registry, "installed", staticmethod(lambda: toys))
    shutil.copytree(made, tmp_path / "small.fdb")
    with featuredb.open(tmp_path / "small.fdb") as opened:
        yield opened


def sampled(db: featuredb.FeatureDB) -> list[int]:
    found = db.sql("select feature from feature where n_fires >= $least order by feature", least=ENOUGH_FIRINGS)
    features: list[int] = found["feature"].to_pylist()
    assert 5 < len(features) < N_FEATURES
    return features


def stored(db: featuredb.FeatureDB) -> list[LabelRow]:
    with db.store.reading() as session:
        return list(session.scalars(select(LabelRow).order_by(LabelRow.feature_index, LabelRow.id)))


def test_every_feature_that_fires_enough_gets_one_label(db: featuredb.FeatureDB) -> None:
    features = sampled(db)
    (row,) = db.label("top", labelers=["toy"])
    assert (row.labeled, row.failed, row.known) == (len(features), 0, 0)
    assert row.under_sampled == N_FEATURES - len(features)
    assert [(label.feature_index, label.text) for label in stored(db)] == [
        (index, f"toy {index}") for index in features
    ]
    assert all(label.status == "proposed" and label.labeler == "toy.v1" for label in stored(db))
    assert stored(db)[0].provenance["examples"] == [1, 2]


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"seed": -1}, BadInput, "-1 is no seed"),
        ({"seed": 2**63}, BadInput, f"{2**63} is no seed"),
        ({"embedder": "nope:x"}, NotFound, "no embedder plugin called 'nope'"),
    ],
)
def test_a_seed_or_embedder_that_is_none_is_refused_before_anything_runs(
    db: featuredb.FeatureDB, how: dict[str, Any], error: type[Exception], said: str
) -> None:
    db.add_label("top/3", "by hand")
    with pytest.raises(error, match=said):
        db.label("top", labelers=["toy"], **how)
    with pytest.raises(error, match=said):
        db.estimate_labels("top", labelers=["toy"], **how)
    with pytest.raises(error, match=said):
        db.score("top", scorers=["embedding"], **how)
    assert [label.labeler for label in stored(db)] == ["hand.v1"]
    with db.store.reading() as session:
        assert session.scalars(select(ScoreRow)).all() == []


def test_the_command_line_says_of_a_seed_that_it_is_none(db: featuredb.FeatureDB) -> None:
    for words in (["label", "make", "top", "--labeler", "toy"], ["score", "top", "--scorer", "embedding"], ["audit"]):
        done = CliRunner().invoke(main, [*words, "--seed", "-1", "--db", str(db.path)])
        assert done.exit_code == BadInput.exit_code
        assert "a whole number from 0" in done.output


def test_the_same_run_again_adds_nothing_and_another_adds_beside(db: featuredb.FeatureDB) -> None:
    features = sampled(db)
    db.label("top", labelers=["toy"])
    (again,) = db.label("top", labelers=["toy"])
    assert (again.labeled, again.known) == (0, len(features))
    (other,) = db.label("top", labelers=["toy"], seed=1)
    assert other.labeled == len(features)
    (forced,) = db.label("top", labelers=["toy"], again=True, features=[f"top/{features[0]}"])
    assert forced.labeled == 1
    assert len(stored(db)) == 2 * len(features) + 1


def test_what_was_made_before_a_breakdown_is_kept_and_the_rest_is_done_later(db: featuredb.FeatureDB) -> None:
    features = sampled(db)
    with pytest.raises(PluginFailed, match="the toy broke"):
        db.label("top", labelers=["toy"], options={"break": str(features[3])})
    assert [label.feature_index for label in stored(db)] == features[:3]
    (rest,) = db.label("top", labelers=["toy"])
    assert (rest.known, rest.labeled) == (3, len(features) - 3)


def test_a_failure_is_a_row_with_a_reason_and_is_made_good(db: featuredb.FeatureDB) -> None:
    features = sampled(db)
    options = {"fail": str(features[1])}
    (row,) = db.label("top", labelers=["toy"], options=options)
    assert (row.labeled, row.failed) == (len(features) - 1, 1)
    (failed,) = [label for label in stored(db) if label.status == "failed"]
    assert (failed.text, failed.note) == (None, "nothing to say")
    assert db.feature(f"top/{features[1]}").label is None
    (again,) = db.label("top", labelers=["toy"], options=options)
    assert (again.known, again.failed) == (len(features) - 1, 1)
    assert len([label for label in stored(db) if label.status == "failed"]) == 1


@pytest.mark.parametrize("text", ["", "a\x07b", "x" * 5_000], ids=["empty", "control", "long"])
def test_what_cannot_be_a_label_is_a_failure_and_never_text(db: featuredb.FeatureDB, text: str) -> None:
    features = sampled(db)
    (row,) = db.label("top", labelers=["toy"], options={"text": text}, features=[str(features[0])])
    assert (row.labeled, row.failed) == (0, 1)
    assert stored(db)[0].text is None
    assert stored(db)[0].note


def test_mistakes_are_named(db: featuredb.FeatureDB) -> None:
    with pytest.raises(NotFound, match="no labeler plugin called 'toi'") as unknown:
        db.label("top", labelers=["toi"])
    assert unknown.value.hint == "did you mean 'toy'?"
    with pytest.raises(BadInput, match=r"toy.v1 has no option 'fial'") as option:
        db.label("top", labelers=["toy"], options={"fial": "1"})
    assert option.value.hint == "did you mean 'fail'?"
    with pytest.raises(NotFound, match="no feature 99"):
        db.label("top", labelers=["toy"], features=["99"])
    with pytest.raises(BadInput, match="is not a feature of top"):
        db.label("top", labelers=["toy"], features=["other/1"])
    with pytest.raises(NotFound, match="no dictionary called 'tap'"):
        db.score("tap", scorers=["embedding"])


def test_scores_are_kept_with_interval_and_baseline(db: featuredb.FeatureDB) -> None:
    features = sampled(db)
    db.label("top", labelers=["toy"])
    (row,) = db.score("top", scorers=["embedding"], options={"fail": str(features[0])})
    assert (row.scored, row.failed, row.median, row.median_baseline) == (len(features) - 1, 1, 0.75, 0.5)
    assert row.above_baseline == 1.0
    (label,) = db.labels(f"top/{features[1]}")
    (score,) = label.scores
    assert (score["scorer"], score["value"], score["low"], score["high"]) == ("embedding.v1", 0.75, 0.65, 0.85)
    assert (score["n"], score["baseline"], score["above_baseline"]) == (9, 0.5, True)
    (failed,) = db.labels(f"top/{features[0]}")[0].scores
    assert (failed["value"], failed["reason"]) == (None, "no answer")


def test_scoring_again_makes_failures_good_and_leaves_the_rest(db: featuredb.FeatureDB) -> None:
    features = sampled(db)
    db.label("top", labelers=["toy"])
    with pytest.raises(PluginFailed, match="the scorer broke"):
        db.score("top", scorers=["embedding"], options={"break": str(features[2])})
    (rest,) = db.score("top", scorers=["embedding"])
    assert (rest.known, rest.scored) == (2, len(features) - 2)
    (again,) = db.score("top", scorers=["embedding"], again=True)
    assert (again.scored, again.median) == (len(features), 0.75)
    with db.store.reading() as session:
        assert len(session.scalars(select(ScoreRow)).all()) == len(features)
    (other,) = db.score("top", scorers=["embedding"], options={"value": "0.6"})
    assert (other.scored, other.known) == (len(features), 0), "another judge's figures stand beside the first's"


def test_the_better_scored_label_is_shown_and_a_verified_one_before_it(db: featuredb.FeatureDB) -> None:
    name = f"top/{sampled(db)[0]}"
    db.label("top", labelers=["toy"], features=[name], options={"text": "good"})
    db.score("top", scorers=["embedding"], options={"value": "0.9"})
    db.label("top", labelers=["toy"], features=[name], options={"text": "newer"})
    assert db.feature(name).label == "good"
    db.score("top", scorers=["embedding"], all_labels=True, options={"value": "0.95"})
    assert db.feature(name).label == "newer"
    (good,) = [label for label in db.labels(name) if label.text == "good"]
    assert db.verify_label(name, label_id=good.id, author="ada").status == "verified"
    assert db.feature(name).label == "good"


def test_a_removed_label_takes_its_scores_along(db: featuredb.FeatureDB) -> None:
    name = f"top/{sampled(db)[0]}"
    db.label("top", labelers=["toy"], features=[name])
    db.score("top", scorers=["embedding"])
    assert [label.text for label in db.remove_labels(name)] == [f"toy {name.split('/')[1]}"]
    with db.store.reading() as session:
        assert session.scalars(select(ScoreRow)).all() == []
    with pytest.raises(NotFound, match="has no label"):
        db.remove_labels(name)
    db.add_label(name, "one")
    db.add_label(name, "two")
    with pytest.raises(BadInput, match="has 2 labels"):
        db.remove_labels(name)
    assert len(db.remove_labels(name, every=True)) == 2


def test_the_command_line_says_what_was_done(db: featuredb.FeatureDB) -> None:
    store = str(db.path)
    made = CliRunner().invoke(main, ["label", "make", "top", "--labeler", "toy", "--json", "--db", store])
    (row,) = json.loads(made.stdout)["rows"]
    assert row["labeled"] == len(sampled(db))
    dry = CliRunner().invoke(main, ["label", "make", "top", "--labeler", "toy", "--dry-run", "--json", "--db", store])
    assert json.loads(dry.stdout)["rows"][0]["features"] == 0
    scored = CliRunner().invoke(main, ["score", "top", "--scorer", "embedding", "--db", store, "--quiet"])
    assert scored.exit_code == 0, scored.stderr
    listed = CliRunner().invoke(main, ["label", "ls", f"top/{sampled(db)[0]}", "--db", store])
    assert "embedding 0.75 [0.65, 0.85]" in " ".join(listed.stdout.split())
    wrong = CliRunner().invoke(main, ["label", "make", "top", "--option", "nonsense", "--db", store])
    assert wrong.exit_code == 3
    assert "'nonsense' is no NAME=VALUE" in wrong.stderr
