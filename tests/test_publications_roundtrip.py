"""Publication to store to export and back: what both sides can hold comes back equal, whatever was published."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuredb.database import FeatureDB
from featuredb.labels.export import export
from featuredb.labels.gather import Gathered
from featuredb.labels.publication import (
    ExportRequest,
    Publication,
    PublishedExample,
    PublishedFeature,
    PublishedLabel,
    PublishedScore,
)
from featuredb.labels.publish import import_publication
from featuredb.store.check import check
from featuredb.store.store import Store
from tests.small_publications import MODEL, SOURCE, plugins

# Tokens as models have them: spaces, parts of characters already replaced, controls but NUL, quotes, other scripts.
tokens = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
words = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
# As publishers write them, rounded, so that float32 and back gives the same decimals.
figures = st.integers(-9_999, 9_999).map(lambda number: number / 1_000)
positive = st.integers(1, 9_999).map(lambda number: number / 1_000)
shares = st.one_of(st.none(), st.integers(0, 1_000).map(lambda number: number / 100_000))


@st.composite
def examples(draw: st.DrawFn) -> PublishedExample:
    text = draw(st.lists(tokens, min_size=1, max_size=80))
    values = [0.0] * len(text)
    for place in draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=4, unique=True)):
        values[place] = draw(positive)
    extra = draw(st.sampled_from([{}, {"binMin": -1, "binMax": 2.5, "binContains": 0.25}]))
    return PublishedExample(tuple(text), tuple(values), draw(st.sampled_from([None, "web", "a/b c"])), extra)


@st.composite
def scores(draw: st.DrawFn) -> PublishedScore:
    counts = st.one_of(st.none(), st.integers(0, 1_000))
    return PublishedScore(
        scorer=draw(words),
        value=draw(figures),
        n=draw(counts),
        failed=draw(counts),
        baseline=draw(st.one_of(st.none(), figures)),
        judge=draw(st.one_of(st.none(), words)),
        details=draw(st.dictionaries(st.sampled_from(["f1", "threshold", "low"]), figures)),
    )


@st.composite
def labels(draw: st.DrawFn) -> PublishedLabel:
    return PublishedLabel(
        text=draw(words),
        labeler=draw(words),
        model=draw(st.one_of(st.none(), words)),
        scores=tuple(draw(st.lists(scores(), max_size=2, unique_by=lambda score: (score.scorer, score.judge)))),
    )


@st.composite
def features(draw: st.DrawFn, index: int) -> PublishedFeature:
    weights = st.lists(st.tuples(tokens, figures), max_size=3).map(tuple)
    return PublishedFeature(
        index=index,
        density=draw(shares),
        max_activation=draw(st.one_of(st.none(), positive)),
        promoted=draw(weights),
        suppressed=draw(weights),
        # A source belongs to a text, so one text has one.
        examples=tuple(draw(st.lists(examples(), max_size=3, unique_by=lambda one: one.tokens))),
        labels=tuple(draw(st.lists(labels(), max_size=3, unique_by=lambda one: (one.text, one.labeler, one.model)))),
        extra=draw(st.sampled_from([{}, {"freq_hist_data_bar_heights": [1, 2.5]}])),
    )


@st.composite
def publications(draw: st.DrawFn) -> list[PublishedFeature]:
    indices = sorted(draw(st.sets(st.integers(0, 12), min_size=1, max_size=5)))
    found = [draw(features(index)) for index in indices]
    seen: dict[tuple[str, ...], str | None] = {}
    for number, feature in enumerate(found):
        kept = [replace(one, source=seen.setdefault(one.tokens, one.source)) for one in feature.examples]
        found[number] = replace(feature, examples=tuple(kept))
    return found


def about(feature: PublishedFeature) -> dict[str, Any]:
    """All of a feature but its activations and its largest one, in words that compare."""
    return {
        "index": feature.index,
        "density": feature.density,
        "promoted": tuple(feature.promoted),
        "suppressed": tuple(feature.suppressed),
        "extra": {name: value for name, value in feature.extra.items() if name not in ("hookName", "hasVector")},
        "examples": sorted(((one.tokens, one.source, sorted(one.extra.items())) for one in feature.examples), key=repr),
        "labels": sorted((said(label) for label in feature.labels), key=repr),
    }


def said(label: PublishedLabel) -> Any:
    figures = [
        (one.scorer, one.value, one.n, one.failed, one.baseline, one.judge, sorted(one.details.items()))
        for one in label.scores
    ]
    return label.text, label.labeler, label.model, sorted(figures, key=repr)


def largest(feature: PublishedFeature) -> float | None:
    """What a store takes for a feature's largest activation: the publisher's, else the largest there is."""
    if feature.max_activation is not None:
        return feature.max_activation
    strongest = max((max(one.activations) for one in feature.examples), default=None)
    return 0.0 if feature.density == 0 and strongest is None else strongest


def activations(feature: PublishedFeature) -> dict[tuple[str, ...], tuple[float, ...]]:
    return {one.tokens: one.activations for one in feature.examples}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.create(tmp_path_factory.mktemp("stores") / "s.fdb") as made:
        yield made


def imported(store: Store, found: Sequence[PublishedFeature]) -> FeatureDB:
    publication = Publication(
        name="published",
        publisher="neuronpedia",
        model=MODEL,
        hook="blocks.1.hook_resid_pre",
        n_features=found[-1].index + 1,
        features=found,
        extra={"source": f"{MODEL}/{SOURCE}", "layer": 1},
    )
    done = import_publication(store, publication)
    assert (done.n_failed, done.n_known, done.n_scores_known) == (0, 0, 0)
    return FeatureDB(store)


def says_something(feature: PublishedFeature) -> bool:
    figures = (feature.density, feature.max_activation) != (None, None)
    return bool(figures or feature.labels or feature.examples or feature.promoted or feature.suppressed)


@settings(max_examples=60)
@given(found=publications())
def test_a_store_gives_back_what_it_can_hold(store: Store, found: list[PublishedFeature]) -> None:
    if not any(says_something(feature) for feature in found):
        return
    db = imported(store, found)
    try:
        assert check(store) == []
        with Gathered(ExportRequest(db, "published", 100), "neuronpedia") as gathered:
            back = list(gathered.features())
        assert [feature.index for feature in back] == list(range(found[-1].index + 1))
        given = {feature.index: feature for feature in found}
        for feature in back:
            one = given.get(feature.index, PublishedFeature(feature.index))
            assert about(feature) == about(one)
            assert feature.max_activation == largest(one)
            for text, values in activations(one).items():
                # Steps of 1/255 of the strongest, and never silent where the feature fires.
                kept, peak = np.array(activations(feature)[text]), max(values)
                off = np.abs(kept - values)
                assert (kept > 0).tolist() == [value > 0 for value in values]
                assert (off <= np.where(kept <= 1.001 * peak / 255, peak / 255, 0.501 * peak / 255)).all()
                assert max(activations(feature)[text]) == peak
    finally:
        db.remove_dictionary("published")


@settings(max_examples=60)
@given(found=publications())
def test_neuronpedias_format_and_back_is_the_same(store: Store, found: list[PublishedFeature]) -> None:
    if not any(says_something(feature) for feature in found):
        return
    db = imported(store, found)
    try:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            export(db, "published", "neuronpedia", out, n_examples=100, registry=plugins())
            back = {feature.index: feature for feature in plugins().label_reader("neuronpedia").read(out).features}
        with Gathered(ExportRequest(db, "published", 100), "neuronpedia") as gathered:
            kept = {feature.index: feature for feature in gathered.features()}
        assert back.keys() == kept.keys()
        for index, feature in kept.items():
            assert about(back[index]) == about(feature)
            assert back[index].max_activation == feature.max_activation
            assert activations(back[index]) == activations(feature)
    finally:
        db.remove_dictionary("published")
