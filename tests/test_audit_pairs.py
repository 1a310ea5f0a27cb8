"""Duplicates, splits, shared labels and absorbed features, in a dictionary where all of them are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from featuredb.audit.absorption import Absorptions, columns_of, deficits
from featuredb.audit.pairs import Surroundings, near_pairs
from featuredb.audit.requests import AuditRequest, Judged
from featuredb.audit.sharing import Contrasts, plain_text, sharing
from featuredb.labels.requests import LabelToScore
from featuredb.plugins import Registry
from featuredb.predicates.tagged import Tagged
from tests.structure_world import (
    ABSORBED,
    ABSORBER,
    COPY,
    HOLE,
    LEFT,
    N_FEATURES,
    RIGHT,
    TEXTS,
    TWIN,
    WIDTH,
    Known,
    N,
    world,
)


def judged(name: str, request: AuditRequest) -> dict[int, Judged]:
    return {one.feature: one for one in Registry.installed().check(name).audit(request)}


def flagged(found: dict[int, Judged]) -> list[int]:
    return [feature for feature, one in found.items() if one.flagged]


@pytest.mark.parametrize("turns", [False, True])
def test_duplicates_are_found_whether_they_fire_together_or_take_turns(turns: bool) -> None:
    found = judged("duplicate", world(turns=turns))
    assert flagged(found) == [TWIN, COPY]
    assert found[TWIN].evidence["others"] == [COPY]
    assert min(found[TWIN].score, found[COPY].score) > max(
        one.score for one in found.values() if one.feature not in (TWIN, COPY)
    )


def test_features_of_one_direction_that_fire_on_other_tokens_are_no_duplicates() -> None:
    request = world()
    rows = request.directions.decoder(range(N_FEATURES))
    rows[8] = 1.01 * rows[TWIN]
    apart = Known(rows)
    found = judged("duplicate", replace(request, directions=apart))
    assert flagged(found) == [TWIN, COPY]


def test_parts_of_a_split_feature_are_found_and_name_each_other() -> None:
    found = judged("split", world())
    assert flagged(found) == [LEFT, RIGHT]
    assert found[LEFT].evidence["others"] == [RIGHT]
    assert found[RIGHT].evidence["others"] == [LEFT]
    assert found[LEFT].evidence["f1_of_both"] == pytest.approx(1.0)
    assert found[LEFT].evidence["f1_of_the_better"] < 0.7


def test_features_that_fire_together_are_not_split() -> None:
    twin = judged("split", world())[TWIN]
    assert twin.evidence["others"] != [COPY]
    assert twin.score < 0.3


def test_overlap_and_alikeness_are_those_of_shares_of_tokens() -> None:
    request = world()
    passages, panel = request.everything.passages, request.panel
    token = passages.token[panel.tokens]
    shares = [np.bincount(token[panel.of(feature)[0]], minlength=20) for feature in (TWIN, 6)]
    a, b = (share / share.sum() for share in shares)
    found = Surroundings(panel, passages)
    assert found.overlap(np.array([TWIN]), np.array([6])) == pytest.approx([np.minimum(a, b).sum()])
    alike = found.alike(np.array([LEFT]), np.array([RIGHT]))[0]
    assert alike > 0.99


def test_the_jump_is_that_of_the_best_set_of_tokens() -> None:
    request = world()
    found = Surroundings(request.panel, request.everything.passages)
    token = request.everything.passages.token[request.panel.tokens]
    fires = np.zeros(N, np.bool_)
    fires[request.panel.of(LEFT)[0]] = True
    right = np.isin(token, [5, 6, 7])
    f1 = 2 * (fires & right).sum() / (fires.sum() + right.sum())
    assert found.jump(LEFT, RIGHT)[1] >= f1 - 1e-9


def test_pairs_are_of_features_that_fire_often_enough() -> None:
    request = world()
    request.everything.n_fires[COPY] = 100
    pairs = near_pairs(request)
    assert COPY not in pairs.ours
    assert COPY not in pairs.theirs


def test_an_absorbed_feature_names_the_token_and_its_absorber() -> None:
    found = judged("absorbed", world())
    assert found[ABSORBED].evidence["token"] == TEXTS[HOLE]
    assert found[ABSORBED].evidence["others"] == [ABSORBER]
    assert found[ABSORBED].evidence["observed"] == 0
    assert found[ABSORBED].score > 0.5
    assert found[ABSORBED].label_id == ABSORBED + 100
    assert max(one.score for one in found.values() if one.feature != ABSORBED) < 0.3


def test_an_absorbed_feature_is_a_finding_only_along_its_own_direction() -> None:
    request = world()
    holds = Tagged(request.audit.passages).holds({"token": [TEXTS[kind] for kind in (10, 11, 12, 13, 14)]})
    own = Absorptions(request.panel, request.everything, request.audit, request.directions, 0).of(ABSORBED, holds)
    rows = request.directions.decoder(range(N_FEATURES))
    rows[ABSORBER] = np.random.default_rng(1).standard_normal(WIDTH) / np.sqrt(WIDTH)
    none = Absorptions(request.panel, request.everything, request.audit, Known(rows), 0).of(ABSORBED, holds)
    assert own is not None
    assert none is not None
    assert own.p == pytest.approx(1 / 22)  # none of 21 other features, all but it and two that fire there
    assert none.score < own.score / 2
    assert none.p > 0.1


def test_what_is_missing_is_held_against_all_other_kinds_of_token() -> None:
    kind = np.repeat([0, 1, 2], [40, 40, 20])
    fires = np.concatenate([np.ones(30), np.zeros(10), np.ones(30), np.zeros(10), np.zeros(20)]).astype(np.bool_)
    found = deficits(kind, fires, 3)
    assert found.expected == pytest.approx([40 * 30 / 60, 40 * 30 / 60, 20 * 60 / 80])
    assert found.z[2] == pytest.approx(15 / np.sqrt(20 * 0.75 * 0.25))


def test_columns_of_a_half_are_its_panel_tokens() -> None:
    request = world()
    assert np.array_equal(columns_of(request.panel, request.everything, request.audit), np.arange(N))


def test_a_label_of_several_features_is_ambiguous_and_what_tells_them_apart_is_said() -> None:
    found = judged("ambiguous", world())
    assert flagged(found) == [LEFT, RIGHT]
    assert found[LEFT].evidence["others"] == [RIGHT]
    assert found[LEFT].evidence["same"] == "text"
    assert found[TWIN].score == 0


def test_labels_that_hold_of_nearly_the_same_tokens_are_one() -> None:
    masks = {0: np.arange(1_000) < 500, 1: np.arange(1_000) < 480, 2: np.arange(1_000) < 300}
    labels = [LabelToScore(feature, feature, f"label {feature}", {"token": [str(feature)]}) for feature in masks]
    found = sharing(labels, lambda label: masks[label.feature], 0)
    assert [(one.other, one.how) for one in found[0].likest] == [(1, "tokens")]
    assert found[0].likest[0].likeness == pytest.approx(480 / 500)
    assert found[2].likest == ()


def test_all_that_share_a_label_are_counted_though_few_are_named() -> None:
    random = np.random.default_rng(0)
    labels = [
        LabelToScore(feature, feature, f"text {random.integers(4)}", {"token": [str(random.integers(6))]})
        for feature in range(60)
    ]
    labels[3] = replace(labels[3], predicate=None)
    of_token = {str(each): random.random(400) < 0.3 for each in range(6)}
    of_token["1"] = of_token["0"].copy()
    of_token["1"][np.flatnonzero(of_token["1"])[0]] = False

    def holds(label: LabelToScore) -> NDArray[np.bool_] | None:
        return None if label.predicate is None else of_token[label.predicate["token"][0]]

    def alike(one: LabelToScore, other: LabelToScore) -> bool:
        if one.text == other.text or (one.predicate is not None and one.predicate == other.predicate):
            return True
        tokens = {label.predicate["token"][0] if label.predicate else "" for label in (one, other)}
        return tokens == {"0", "1"}

    found = sharing(labels, holds, 0, most=5)
    for one in labels:
        others = {other.feature for other in labels if other is not one and alike(one, other)}
        assert found[one.feature].n == len(others)
        assert {shared.other for shared in found[one.feature].likest} <= others
        assert len(found[one.feature].likest) == min(5, len(others))


def test_case_and_spaces_make_no_other_label() -> None:
    assert plain_text(" The  word\n“a”. ") == plain_text("the word “A”")
    labels = [LabelToScore(1, 1, "Colons.", None), LabelToScore(2, 2, "colons", None)]
    assert [one.how for one in sharing(labels, lambda label: None, 0)[1].likest] == ["text"]


def test_a_contrast_names_the_tokens_that_one_feature_fires_on_and_others_do_not() -> None:
    request = world()
    columns = columns_of(request.panel, request.everything, request.audit)
    found = Contrasts(request.panel, request.everything.passages, columns).of(ABSORBED, [ABSORBER])
    assert set(found.more) < {TEXTS[kind] for kind in (10, 11, 13, 14)}
    assert found.less == (TEXTS[HOLE],)
    assert found.overlap == 0
