"""What is planted is what is said to be planted, and the area under the curve is scikit-learn's."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from featuredb.audit.requests import AuditRequest
from featuredb.plugins import Registry
from featuredb.predicates.tagged import Tagged
from featuredb.testing.truth.structure import Structure, auroc, found, plant_structure
from featuredb.testing.truth.synthetic import synthetic_request


@cache
def planted() -> tuple[AuditRequest, Structure, AuditRequest]:
    """A synthetic dictionary, what was planted in it, and the dictionary with that."""
    request = synthetic_request(1_000, absorbing=0.0).request
    tagged = Tagged(request.audit.passages)
    labels = [label for label in request.labels.values() if label.predicate is not None]
    holds = {label.feature: tagged.holds(label.predicate) for label in labels if label.predicate is not None}
    made = plant_structure(request, 1_000, 4, holds)
    return request, made, made.into(request)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float64)


def test_a_copy_that_fires_with_its_original_has_all_its_firings() -> None:
    before, made, after = planted()
    for one, other in made.duplicates["both"]:
        assert np.array_equal(after.panel.places(one), before.panel.places(one))
        assert np.array_equal(after.panel.places(other), before.panel.places(one))
        cosine = np.prod(unit(after.directions.decoder([one, other])), axis=0).sum()
        assert cosine == pytest.approx(1 / np.sqrt(1 + 0.1**2), abs=0.02)


def test_a_copy_that_takes_turns_has_the_other_firings() -> None:
    before, made, after = planted()
    for one, other in made.duplicates["turns"]:
        ours, theirs = after.panel.places(one), after.panel.places(other)
        assert len(np.intersect1d(ours, theirs)) == 0
        assert np.array_equal(np.union1d(ours, theirs), before.panel.places(one))


def test_parts_have_no_kind_of_token_in_common_or_no_document() -> None:
    before, made, after = planted()
    passages = after.everything.passages
    assert made.splits["token"] or made.splits["document"]
    for kind, pairs in made.splits.items():
        for pair in pairs:
            places = [after.panel.places(feature) for feature in pair]
            of = passages.token if kind == "token" else passages.document[passages.piece]
            assert len(np.intersect1d(of[places[0]], of[places[1]])) == 0
            assert np.array_equal(np.union1d(*places), before.panel.places(pair[0]))
            assert 0.39 < np.prod(unit(after.directions.decoder(list(pair))), axis=0).sum() < 0.91


def test_a_hole_leaves_nothing_on_its_token_and_gives_its_child_the_direction() -> None:
    before, made, after = planted()
    passages = after.everything.passages
    assert made.holes
    for hole in made.holes:
        kept = after.panel.places(hole.feature)
        assert hole.token not in passages.token[kept]
        had = before.panel.places(hole.feature)
        assert np.array_equal(kept, had[passages.token[had] != hole.token])
        cosines = [
            np.prod(unit(each.directions.decoder([hole.feature, hole.child])), axis=0).sum() for each in (before, after)
        ]
        assert cosines[1] > cosines[0]


def test_planted_duplicates_are_found() -> None:
    _, made, after = planted()
    pairs = [pair for group in made.duplicates.values() for pair in group]
    partner = dict(pairs) | {other: one for one, other in pairs}
    result = found(Registry.installed().check("duplicate").audit(after), partner, made.touched)
    assert (result.flagged, result.named) == (1, 1)
    assert result.auroc >= 0.99  # neighbours on its lines and circles are nearly parallel and take turns too


def test_the_area_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    bad, sound = random.integers(2, 9, 30), random.integers(0, 7, 50)
    expected = roc_auc_score([1] * 30 + [0] * 50, [*bad, *sound])
    assert auroc(map(float, bad), map(float, sound)) == pytest.approx(expected)
