"""Concepts beside features: AUROCs against scikit-learn, and read-outs made of patterns, against plain numpy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from featuredb.concepts.request import ConceptRequest
from featuredb.concepts.vectors import read_vectors
from featuredb.database import FeatureDB
from featuredb.errors import BadInput
from tests.correlate_world import HOOK, LOWER, UPPER, World, world
from tests.small_ingest import N_FEATURES

TOKENS = ("last", "mean", "all")


@pytest.fixture(scope="module")
def made() -> World:
    return world()


@pytest.fixture(scope="module")
def db(made: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureDB]:
    """With a concept of the same texts for each choice of tokens, and one that LDA makes."""
    with made.copy(tmp_path_factory.mktemp("concepts") / "store.fdb") as copied:
        for token in TOKENS:
            copied.concepts.add(asked(f"caps-{token}", token=token))
        copied.concepts.add(asked("caps-lda", method="lda"))
        yield copied


def asked(name: str, **more: Any) -> ConceptRequest:
    return ConceptRequest(name, UPPER, LOWER, model="one", hooks=(HOOK,), **more)


@cache
def on_texts(folder: Path, name: str, token: str) -> NDArray[np.float64]:
    """(n_texts, F) one value of each text for each feature, by transformers and sae-lens alone."""
    from sae_lens import SAE
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(folder / "one") for kind in (AutoModelForCausalLM, AutoTokenizer))
    sae = SAE.load_from_disk(folder / name)
    values = []
    with torch.inference_mode():
        for text in (*UPPER, *LOWER):
            ids = torch.tensor([[0, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
            acts = sae.encode(model(ids, output_hidden_states=True).hidden_states[2][0, 1:]).numpy()
            values.append({"last": acts[-1], "mean": acts.mean(axis=0), "all": acts.max(axis=0)}[token])
    return np.array(values, np.float64)


def positive() -> NDArray[np.bool_]:
    return np.arange(len(UPPER) + len(LOWER)) < len(UPPER)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("name", ["top", "jump", "over"])
def test_auroc_is_scikit_learns_on_the_activations_of_the_tokens_chosen(
    db: FeatureDB, made: World, name: str, token: str
) -> None:
    from sklearn.metrics import roc_auc_score

    values = on_texts(made.folder, name, token)
    rows = db.correlate(f"caps-{token}", "correlation", [name], limit=N_FEATURES, all_features=True)
    assert len(rows) == N_FEATURES
    found = [row.auroc for row in sorted(rows, key=lambda row: row.index)]
    assert found == pytest.approx([roc_auc_score(positive(), column) for column in values.T])
    for row in rows:
        assert row.auroc is not None
        assert row.auroc_low is not None
        assert row.auroc_high is not None
        assert 0 <= row.auroc_low <= row.auroc <= row.auroc_high <= 1


@pytest.mark.parametrize("name", ["top", "jump"])
def test_by_auroc_features_are_weighed_by_the_surprise_that_they_fire(db: FeatureDB, made: World, name: str) -> None:
    from sklearn.metrics import roc_auc_score

    values = on_texts(made.folder, name, "mean")
    rows = db.correlate("caps-mean", "auroc", [name], limit=N_FEATURES)
    acts = made.oracles[name].acts
    surprise = -np.log2(((acts != 0).sum(axis=0) + 1) / (len(acts) + 1))
    expected = (np.array([roc_auc_score(positive(), column) for column in values.T]) - 0.5) * surprise
    fires = (values != 0).any(axis=0)
    ranked = np.flatnonzero(fires & made.ranked(name))
    assert {row.index for row in rows} == set(ranked.tolist())
    assert [row.score for row in rows] == pytest.approx(sorted(expected[ranked], reverse=True))
    assert all(row.score == pytest.approx(expected[row.index]) for row in rows)
    every = db.correlate("caps-mean", "auroc", [name], limit=N_FEATURES, all_features=True)
    assert {row.index for row in every} == set(np.flatnonzero(fires).tolist())


def test_baseline_of_aurocs_is_that_of_texts_whose_sides_are_dealt_out(db: FeatureDB, made: World) -> None:
    from sklearn.metrics import roc_auc_score

    values = on_texts(made.folder, "jump", "mean")
    (row,) = db.correlate("caps-mean", "auroc", ["jump"], limit=1)
    ranked = made.ranked("jump") & (values != 0).any(axis=0)
    random = np.random.default_rng(77)
    best = []
    for _ in range(40):
        dealt = random.permutation(positive())
        best.append(max(roc_auc_score(dealt, column) for column in values[:, ranked].T))
    low, high = np.percentile(best, [75, 100])
    assert row.baseline is not None
    assert low <= row.baseline <= high
    assert db.correlate("caps-mean", "auroc", ["jump"], limit=1)[0].baseline == row.baseline


def test_a_pattern_is_read_out_through_the_covariance_and_a_read_out_as_it_is(db: FeatureDB, made: World) -> None:
    covariance = made.oracles["top"].covariance()
    ridge = 1e-3 * np.diag(covariance).mean() * np.eye(len(covariance))
    for concept in ("caps-last", "caps-lda"):
        vector = read_vectors(db.store, concept).by_hook[HOOK].astype(np.float64)
        read_out = vector if concept == "caps-lda" else np.linalg.solve(covariance + ridge, vector)
        expected = made.pearson("top", read_out)
        rows = db.correlate(concept, dictionaries=["top"], limit=N_FEATURES)
        assert [row.correlation for row in rows] == pytest.approx([expected[row.index] for row in rows], abs=1e-3)
        weights = made.weights("top")["w_dec"]
        cosines = weights @ vector / np.linalg.norm(vector) / np.maximum(np.linalg.norm(weights, axis=1), 1e-9)
        for row in rows:
            assert row.cosine_decoder is None or row.cosine_decoder == pytest.approx(cosines[row.index], abs=1e-6)


def test_a_vector_has_no_auroc_and_a_concept_of_another_model_is_left_out(db: FeatureDB) -> None:
    said: list[str] = []
    (row,) = db.correlate(np.ones(32), hook=HOOK, dictionaries=["top"], limit=1)
    assert (row.auroc, row.auroc_low, row.auroc_high) == (None, None, None)
    found = db.correlate("caps-last", limit=200, say=said.append)
    assert {row.dictionary for row in found} == {"before", "jump", "over", "top"}
    assert "left out: other, of another model (two) than caps-last" in said


def test_without_its_model_a_concept_still_has_the_other_figures(made: World, tmp_path: Path) -> None:
    with made.copy(tmp_path / "store.fdb") as db:
        db.concepts.add(asked("caps"))
    from sqlalchemy import select

    import featuredb
    from featuredb.store.catalog import ModelRow

    with featuredb.open(tmp_path / "store.fdb") as db:
        shutil.copytree(made.folder / "two", tmp_path / "elsewhere")
        with db.store.session() as session:
            for row in session.scalars(select(ModelRow)):
                row.source = str(tmp_path / "elsewhere")
        said: list[str] = []
        (found,) = db.correlate("caps", dictionaries=["top"], limit=1, say=said.append)
        assert found.correlation is not None
        assert found.auroc is None
        assert any(text.startswith("no AUROC for top: the model at") for text in said)
        with pytest.raises(BadInput, match="is not the one top was ingested with"):
            db.correlate("caps", "auroc", ["top"])
