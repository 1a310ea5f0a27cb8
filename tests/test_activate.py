"""What fires on texts: against brute force on dense matrices, alone, together, in windows and in contrast."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featuredb
from featuredb.capture.encode import Activations
from featuredb.database import FeatureDB
from featuredb.errors import BadInput, NotFound
from featuredb.search.fired import fired
from featuredb.search.passes import CutTexts
from featuredb.search.running import Running, n_bytes
from tests.fired_store import BODY, LAYERS, Oracle, make
from tests.small_ingest import N_FEATURES

TEXTS = (
    "the river under the WINDOW; seven 12",
    "x = y + z",
    "a lamp (between) the door and THE end. " * 9,
    "Door",
)
OTHERS = ("the river over the stone", "y = z + 12")
WORDS = ["river", "stone", "lamp", "Door", "WINDOW", "12", "cat's", ";", "=", "<|endoftext|>", "THE"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("fired"))


@pytest.fixture(scope="module")
def oracle(path: Path) -> Oracle:
    return Oracle(path)


@pytest.fixture(scope="module")
def db(path: Path) -> Iterator[FeatureDB]:
    with featuredb.open(path) as db:
        yield db


@pytest.mark.parametrize("by", ["max", "mean", "last"])
def test_one_texts_answer_is_brute_forces(db: FeatureDB, oracle: Oracle, by: str) -> None:
    for text in TEXTS:
        rows = db.activate(text, by=by, all_features=True)  # type: ignore[arg-type]
        expected: dict[tuple[str, int], tuple[float, float]] = {}
        for name in LAYERS:
            value, score = oracle.value(name, text, by), oracle.scores(name, [text], by)[0]
            expected |= {(name, i): (value[i], score[i]) for i in range(N_FEATURES) if value[i] != 0}
        assert {(row.dictionary, row.index) for row in rows} == expected.keys()
        for row in rows:
            assert (row.activation, row.score) == pytest.approx(expected[row.dictionary, row.index], rel=2e-4)
            dense = oracle.dense(row.dictionary, text)[:, row.index]
            assert np.allclose(row.activations, dense, rtol=1e-4, atol=1e-5)
            assert "".join(row.tokens) == text
            assert row.position == (len(dense) - 1 if by == "last" else int(dense.argmax()))
            assert row.token == row.tokens[row.position]


@pytest.mark.parametrize("by", ["max", "mean", "last"])
def test_of_several_texts_a_features_best_score_counts(db: FeatureDB, oracle: Oracle, by: str) -> None:
    rows = db.activate(TEXTS, ["high"], by=by, all_features=True)  # type: ignore[arg-type]
    scores = oracle.scores("high", TEXTS, by)
    fires = np.array([oracle.value("high", text, by) for text in TEXTS]) != 0
    assert {row.index for row in rows} == set(np.flatnonzero(fires.any(axis=0)).tolist())
    for row in rows:
        assert row.score == pytest.approx(scores[:, row.index].max(), rel=2e-4)
        assert row.score == pytest.approx(scores[row.text, row.index], rel=2e-4)
        assert row.n_texts == fires[:, row.index].sum()
        assert "".join(row.tokens) == TEXTS[row.text]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=70).map(" ".join), min_size=1, max_size=6))
def test_texts_run_together_answer_as_each_does_alone(db: FeatureDB, texts: list[str]) -> None:
    texts = [f"12 {text}" for text in texts]
    together = db.activate(texts, all_features=True)
    alone = [{row.feature: row for row in db.activate(text, all_features=True)} for text in texts]
    assert {row.feature for row in together} == {feature for one in alone for feature in one}
    for row in together:
        same = alone[row.text][row.feature]
        assert np.allclose(row.activations, same.activations, rtol=1e-4, atol=1e-5)
        assert row.score == pytest.approx(same.score, rel=1e-4)
        assert row.score == pytest.approx(max(one[row.feature].score for one in alone if row.feature in one), rel=1e-4)
        assert row.n_texts == sum(row.feature in one for one in alone)


@pytest.mark.parametrize("by", ["max", "mean", "last"])
@pytest.mark.parametrize(("texts", "others"), [(TEXTS[:1], OTHERS[:1]), (TEXTS, OTHERS)])
def test_a_contrast_is_brute_forces(
    db: FeatureDB, oracle: Oracle, by: str, texts: tuple[str, ...], others: tuple[str, ...]
) -> None:
    rows = db.activate(texts, ["low", "high"], by=by, contrast=others, all_features=True)  # type: ignore[arg-type]
    found = {(row.dictionary, row.index): row for row in rows}
    for name in ("low", "high"):
        expected = oracle.contrast(name, texts, others, by)
        here, there = (np.mean([oracle.value(name, text, by) for text in side], axis=0) for side in (texts, others))
        assert {index for dictionary, index in found if dictionary == name} == expected.keys()
        for index, score in expected.items():
            row = found[name, index]
            assert row.score == pytest.approx(score, rel=1e-3, abs=1e-4)
            assert row.activation == pytest.approx(here[index], rel=2e-4)
            assert row.activation_contrast == pytest.approx(there[index], rel=2e-4, abs=1e-6)
            on_each = [oracle.value(name, text, by)[index] for text in texts]
            assert on_each[row.text] == pytest.approx(max(on_each), rel=2e-4)
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)


def test_a_text_does_not_contrast_with_itself(db: FeatureDB) -> None:
    assert db.activate(TEXTS[0], contrast=TEXTS[0], all_features=True) == []
    assert db.activate(TEXTS[:3], contrast=TEXTS[2::-1], all_features=True) == []


def test_equal_scores_are_in_order_of_dictionary_and_index(db: FeatureDB) -> None:
    rows = db.activate(TEXTS[2], all_features=True)
    order = [(-row.score, row.dictionary, row.index) for row in rows]
    assert order == sorted(order)
    # twin is high again, and its features 5 and 7 are one.
    twins = [row.feature for row in rows if row.dictionary in ("high", "twin") and row.index in (5, 7)]
    assert twins == ["high/5", "high/7", "twin/5", "twin/7"]
    assert db.activate(TEXTS[2], limit=5) == rows[:5]
    assert db.activate(TEXTS[2], limit=5, contrast=OTHERS) == db.activate(TEXTS[2], limit=50, contrast=OTHERS)[:5]


def test_a_long_text_is_windowed_and_says_so(db: FeatureDB, oracle: Oracle) -> None:
    said: list[str] = []
    n_tokens = len(oracle.ids(TEXTS[2]))
    n_contexts = -(-n_tokens // BODY)
    assert n_contexts > 2
    db.activate(TEXTS[2], ["low"], say=said.append)
    assert said == [
        f"the text is longer than a context of 48 tokens: its {n_tokens} tokens were run as {n_contexts} contexts"
    ]
    said.clear()
    db.activate(TEXTS, say=said.append)
    assert said == [
        f"1 of 4 texts are longer than a context of 48 tokens and were run as several, at most {n_contexts}"
    ]
    said.clear()
    db.activate(TEXTS[:2], say=said.append)
    assert said == []


def test_special_tokens_are_read_and_never_count(db: FeatureDB, oracle: Oracle) -> None:
    text = "<|endoftext|>the river<|endoftext|> lamp<|endoftext|>"
    ids = np.array(oracle.ids(text))
    for by in ("max", "mean", "last"):
        rows = db.activate(text, ["high"], by=by, all_features=True)
        value = oracle.value("high", text, by)
        assert {row.index for row in rows} == set(np.flatnonzero(value).tolist())
        assert all(row.activation == pytest.approx(value[row.index], rel=2e-4) for row in rows)
        assert not any(np.array(row.activations)[ids == 0].any() for row in rows)


def test_layers_dictionaries_and_features_narrow_the_answer(db: FeatureDB) -> None:
    whole = db.activate(TEXTS[0], all_features=True)
    assert {row.dictionary for row in db.activate(TEXTS[0], layers=[2], all_features=True)} == {"high", "twin"}
    assert db.activate(TEXTS[0], ["low", "low"], all_features=True) == [row for row in whole if row.dictionary == "low"]
    chosen = [whole[5].feature, whole[1].feature]
    assert [row.feature for row in db.activate(TEXTS[0], features=chosen)] == chosen[::-1]
    never = f"low/{N_FEATURES - 1}"
    assert db.activate(TEXTS[0], features=[never]) == []


def test_one_pass_of_the_model_serves_all_dictionaries(db: FeatureDB, monkeypatch: pytest.MonkeyPatch) -> None:
    from featuredb.model import Model

    asked: list[set[str]] = []
    run = Model.run

    def counted(self: Model, ids: Any, mask: Any, hooks: Sequence[str]) -> Any:
        asked.append(set(hooks))
        return run(self, ids, mask, hooks)

    monkeypatch.setattr(Model, "run", counted)
    db.activate(TEXTS[:2])
    assert asked == [{"layers.1.resid_post", "layers.2.resid_post"}]


def test_small_blocks_and_batches_change_nothing(db: FeatureDB, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = db.activate(TEXTS, all_features=True)
    monkeypatch.setattr("featuredb.search.passes.BATCH_TOKENS", 1)
    monkeypatch.setattr("featuredb.search.passes.BLOCK_BYTES", 1)
    again = db.activate(TEXTS, all_features=True)
    assert [row.feature for row in again] == [row.feature for row in whole]
    assert np.allclose([row.score for row in again], [row.score for row in whole], rtol=1e-4)


def test_a_million_features_are_told_apart() -> None:
    starts, n_features = np.array([0, 3000, 5000]), 2_000_000
    texts = CutTexts(
        (np.zeros(3000, np.int32), np.zeros(2000, np.int32)), starts, starts[1:] - 1, np.diff(starts), (), starts
    )
    row = np.array([4999, 2999, 0, 3000, 2999], np.int32)
    feature = np.array([1_999_999, 1_999_999, 1_999_999, 0, 1_999_998], np.int32)
    found = fired(Activations(row, feature, np.array([5, -4, 4, 2, 1], np.float32)), n_features, texts, "last")
    assert found.text.tolist() == [0, 0, 1, 1]
    assert found.feature.tolist() == [1_999_998, 1_999_999, 0, 1_999_999]
    assert found.value.tolist() == [1, -4, 0, 5]
    assert found.largest.tolist() == [1, 4, 2, 5]
    assert found.peak.tolist() == [2999, 0, 3000, 4999]


def test_encoders_stay_within_their_bytes(path: Path) -> None:
    with featuredb.open(path) as db:
        running = Running(db.store, db._reader)
        sizes = {name: n_bytes(running.open(name).encoder) for name in LAYERS}
        assert running.open("low").encoder is running.open("low").encoder
        assert running.open("low").model is running.open("high").model
        small = Running(db.store, db._reader, encoder_bytes=sizes["low"] + sizes["high"])
        low, high = small.open("low").encoder, small.open("high").encoder
        assert small.open("low").encoder is low
        small.open("twin")  # for which high goes, the one used longest ago
        assert small.open("low").encoder is low
        assert small.open("high").encoder is not high


def test_what_a_dictionary_is_opened_with_is_its_newest_runs(db: FeatureDB, oracle: Oracle) -> None:
    loaded = db._activator.open("high")
    assert (loaded.reading.name, loaded.reading.hook) == ("high", "layers.2.resid_post")
    assert loaded.model.name == "model"
    assert loaded.encoder.dictionary.fingerprint == oracle.dictionaries["high"].fingerprint
    assert (loaded.reading.packing.context_length, loaded.reading.packing.bos_id) == (BODY + 1, 0)
    with pytest.raises(NotFound, match="no dictionary called 'hihg'"):
        db._activator.open("hihg")


def test_each_token_has_its_strongest_features(db: FeatureDB, oracle: Oracle) -> None:
    texts = TEXTS[:3]
    rows = db.activate_tokens(texts, ["low", "high"], limit=4, per_token=2)
    assert [(row.text, row.model) for row in rows] == [(0, "model"), (1, "model"), (2, "model")]
    for row, text in zip(rows, texts, strict=True):
        assert "".join(row.tokens) == text
        alone = db.activate(text, ["low", "high"], limit=4)
        assert [one.feature for one in row.fired] == [one.feature for one in alone]
        expected: list[dict[str, float]] = [{} for _ in row.tokens]
        for name in ("low", "high"):
            dense = oracle.dense(name, text)
            largest, surprise = oracle.figures[name]
            score = dense / np.maximum(largest, dense.max(axis=0)) * surprise
            for at, index in zip(*np.nonzero(dense), strict=True):
                expected[at][f"{name}/{index}"] = score[at, index]
        for features, scores in zip(row.strongest, expected, strict=True):
            assert len(features) == min(2, len(scores))
            best = sorted(scores.values(), reverse=True)[:2]
            assert [one.score for one in features] == pytest.approx(best, rel=1e-3)
            assert all(one.score == pytest.approx(scores[one.feature], rel=1e-3) for one in features)
    only = db.activate_tokens(texts[0], features=["low/1"])[0]
    assert {one.feature for at in only.strongest for one in at} | {one.feature for one in only.fired} <= {"low/1"}


def test_flags_say_how_far_figures_can_be_trusted(db: FeatureDB) -> None:
    every = db.sql("select dictionary, feature, n_fires, density from feature").to_pylist()
    figures = {(one["dictionary"], one["feature"]): one for one in every}
    flagged = set()
    for row in db.activate((*TEXTS, "Q" * 40), all_features=True):
        one = figures[row.dictionary, row.index]
        assert row.density == one["density"]
        assert ("dead" in row.flags) == (one["n_fires"] == 0)
        assert ("under-sampled" in row.flags) == (0 < one["n_fires"] < 200)
        assert ("dense" in row.flags) == (one["density"] > 0.1)
        flagged |= set(row.flags)
    assert flagged == {"dead", "under-sampled", "dense"}, "what fires here fires, whatever the run has seen of it"


def test_changes_of_others_are_seen_at_once(path: Path) -> None:
    with featuredb.open(path) as db, featuredb.open(path) as other:
        feature = db.activate(TEXTS[1], limit=1)[0].feature
        for text in ("one", "two"):
            other.add_label(feature, text)
            assert db.activate(TEXTS[1], limit=1)[0].label == text
        db.add_label(feature, "my own")
        assert db.activate(TEXTS[1], limit=1)[0].label == "my own"


def test_a_dictionary_that_is_removed_is_gone(path: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(path, tmp_path / "copy.fdb")
    with featuredb.open(tmp_path / "copy.fdb") as db:
        db.activate(TEXTS[1], ["low"])
        db.remove_dictionary("low")
        with pytest.raises(NotFound):
            db.activate(TEXTS[1], ["low"])
        assert {row.dictionary for row in db.activate(TEXTS[1])} == {"high", "twin"}


def test_labels_come_with_the_rows(path: Path) -> None:
    with featuredb.open(path) as db:
        first = db.activate(TEXTS[0], limit=1)[0]
        db.add_label(first.feature, "rivers")
        assert db.activate(TEXTS[0], limit=1)[0].label == "rivers"
        assert db.activate_tokens(TEXTS[0], limit=1)[0].fired[0].label == "rivers"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"texts": ""}, "the text is empty"),
        ({"texts": ["a", " \n"]}, "text 2 of 2 is empty"),
        ({"texts": "<|endoftext|>"}, "the text '<|endoftext|>' has no tokens for model"),
        ({"texts": ["a", "<|endoftext|>"]}, "text 2 of 2 '<|endoftext|>' has no tokens for model"),
        ({"texts": "a\ud800"}, "the text is not UTF-8 at character 1"),
        ({"texts": []}, "there is no text"),
        ({"texts": "a", "contrast": []}, "there is no text to contrast with"),
        ({"texts": "a", "contrast": ""}, "text 2 of 2 is empty"),
        ({"texts": "a", "by": "maximum"}, "no measure 'maximum'"),
        ({"texts": "a", "limit": 0}, "cannot list 0 features"),
        ({"texts": "a", "features": ["low"]}, "'low' does not name a feature"),
        ({"texts": "a", "features": ["low/1"], "dictionaries": ["low"]}, "both features and dictionaries are named"),
    ],
)
def test_what_cannot_be_run_is_refused(db: FeatureDB, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput) as error:
        db.activate(**arguments)  # type: ignore[arg-type]
    assert error.value.message == said


def test_tokens_are_not_contrasted_and_need_one_feature_at_least(db: FeatureDB) -> None:
    with pytest.raises(BadInput, match="cannot list 0 features a token"):
        db.activate_tokens("a", per_token=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dictionaries": ["lwo"]}, "no dictionary called 'lwo'"),
        ({"dictionaries": ["low", "hgih"]}, "no dictionary called 'hgih'"),
        ({"layers": [9]}, "no dictionary reads at layer 9"),
        ({"dictionaries": ["low"], "layers": [2]}, "no dictionary reads at layer 2"),
        ({"features": ["low/48"]}, "no feature 48 in 'low'"),
    ],
)
def test_what_is_not_there_is_not_found(db: FeatureDB, arguments: dict[str, list[str]], said: str) -> None:
    with pytest.raises(NotFound) as error:
        db.activate("a", **arguments)  # type: ignore[arg-type]
    assert error.value.message == said
    assert error.value.hint


def test_another_model_in_its_place_is_refused(tmp_path: Path) -> None:
    from tests.small_ingest import save_model

    path = make(tmp_path)
    save_model(tmp_path / "model", seed=5)
    with featuredb.open(path) as db, pytest.raises(BadInput, match="is not the one low was ingested with"):
        db.activate("a", ["low"])


def test_threads_take_turns(db: FeatureDB) -> None:
    expected = [db.activate(text, limit=3) for text in TEXTS]
    found: dict[int, object] = {}

    def ask(number: int) -> None:
        found[number] = db.activate(TEXTS[number], limit=3)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(TEXTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(TEXTS))] == expected
