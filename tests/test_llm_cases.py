"""The texts that judges are shown: their truth is known, and nothing but their words tells it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from featuredb.labels.split import half_of
from featuredb.llm.cases import Case, CaseMaker, Cases
from featuredb.llm.windows import AFTER, BEFORE, Panel
from tests.llm_store import CAPITALS, DIGITS, PERCENT, RARE, RULES, Bench, bench

SCORERS = ("detection", "fuzzing")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("planted") / "planted.fdb") as made:
        yield made


def made_cases(planted: Bench, scorer: str, feature: int, n: int = 20) -> Cases:
    maker = CaseMaker(planted.score_request({feature: "any"}), n)
    return maker.detection(feature) if scorer == "detection" else maker.fuzzing(feature)


def of_group(cases: Cases, group: str) -> list[Case]:
    return [case for case in cases.cases if case.group == group]


@pytest.mark.parametrize("feature", [DIGITS, CAPITALS, PERCENT])
def test_detection_shows_texts_whose_truth_is_known(planted: Bench, feature: int) -> None:
    cases = made_cases(planted, "detection", feature)
    for case in cases.cases:
        assert RULES[feature](case.text) == case.fits
        assert half_of(f"document {case.context}") == "scoring"
    assert Counter(case.group for case in cases.cases) == {"firing": 20, "neighbours": 10, "random": 10}
    if feature == DIGITS:
        near = of_group(cases, "neighbours")
        assert sum(RULES[PERCENT](case.text) for case in near) >= 1, "its nearest neighbour fires there"
        assert all(any(RULES[f](case.text) for f in (CAPITALS, PERCENT, RARE)) for case in near)


@pytest.mark.parametrize("feature", [DIGITS, CAPITALS, PERCENT])
def test_fuzzing_marks_right_and_wrong_tokens_alike(planted: Bench, feature: int) -> None:
    cases = made_cases(planted, "fuzzing", feature)
    marks = {
        group: [re.findall("<<(.*?)>>", case.text) for case in of_group(cases, group)]
        for group in ("firing", "moved", "random")
    }
    assert [len(marks[group]) for group in ("firing", "moved", "random")] == [20, 10, 10]
    assert all(RULES[feature](mark) for found in marks["firing"] for mark in found)
    wrong = [mark for group in ("moved", "random") for found in marks[group] for mark in found]
    assert not any(RULES[feature](mark) for mark in wrong)
    assert all(mark.strip() for mark in wrong), "no mark stands on empty space"
    assert all(marks[group] for group in marks)
    for case in of_group(cases, "moved"):
        assert RULES[feature](case.text.replace("<<", "").replace(">>", "")), "the feature fires there"
    number = {group: np.mean([len(found) for found in marks[group]]) for group in marks}
    assert number["random"] == pytest.approx(number["firing"], abs=0.5)
    assert not {case.text for case in of_group(cases, "firing")} & {case.text for case in of_group(cases, "moved")}


CUES: dict[str, Callable[[str], float]] = {
    "length": len,
    "line ends": lambda text: text.count("\u23ce"),
    "place of the first mark": lambda text: text.find("<<") / len(text),
    "place of the last mark": lambda text: text.rfind("<<") / len(text),
    "number of marks": lambda text: text.count("<<"),
}


@pytest.mark.parametrize("scorer", SCORERS)
def test_no_cue_beside_the_words_tells_texts_apart(planted: Bench, scorer: str) -> None:
    """Among the cues is where the marks stand: with its strongest token always in one place, AUROC was 0.60."""
    truth: list[bool] = []
    texts: list[str] = []
    for seed in range(6):
        maker = CaseMaker(planted.score_request({DIGITS: "any"}, seed=seed), 20)
        for feature in (DIGITS, CAPITALS, PERCENT):
            cases = maker.detection(feature) if scorer == "detection" else maker.fuzzing(feature)
            truth += [case.fits for case in cases.cases]
            texts += [case.text for case in cases.cases]
    for name, cue in CUES.items():
        assert 0.43 < roc_auc_score(truth, [cue(text) for text in texts]) < 0.57, name


def test_texts_in_which_it_fires_are_from_the_whole_range_of_activations(planted: Bench) -> None:
    request = planted.score_request({DIGITS: "any"})
    examples = request.evidence.examples(DIGITS, DIGITS + 1)
    sample = examples.activation[examples.kind == 1]
    edges = np.quantile(sample, [0.25, 0.5, 0.75])
    shown = {case.context for case in of_group(made_cases(planted, "detection", DIGITS), "firing")}
    contexts = request.evidence.passages.context[
        np.searchsorted(request.evidence.passages.start, examples.at, "right") - 1
    ]
    of_shown = examples.activation[(examples.kind == 1) & np.isin(contexts, list(shown))]
    assert len(of_shown) == 20
    assert np.bincount(np.searchsorted(edges, of_shown), minlength=4).tolist() == pytest.approx([5, 5, 5, 5], abs=1)


def test_cases_hang_on_the_seed_and_the_feature_alone(planted: Bench) -> None:
    one = made_cases(planted, "detection", DIGITS)
    assert one == made_cases(planted, "detection", DIGITS)
    assert one == CaseMaker(planted.score_request({DIGITS: "another", CAPITALS: "label"}), 20).detection(DIGITS)
    assert one != CaseMaker(planted.score_request({DIGITS: "any"}, seed=1), 20).detection(DIGITS)


def test_base_rate_is_the_share_of_panel_windows_in_which_it_fires(planted: Bench) -> None:
    evidence = planted.evidence["scoring"]
    fires, _ = evidence.panel(DIGITS, DIGITS + 1).of(DIGITS)
    passages, firing = evidence.passages, set(fires.tolist())
    n_firing = n_windows = 0
    for piece in range(len(passages.context)):
        low, high = int(passages.start[piece]), int(passages.start[piece + 1])
        for at in range(low, high) if passages.panel[piece] else ():
            n_windows += 1
            n_firing += any(place in firing for place in range(max(low, at - BEFORE), min(high, at + AFTER + 1)))
    assert Panel(passages).share_firing(fires) == pytest.approx(n_firing / n_windows)
    assert made_cases(planted, "detection", DIGITS).base_rate == pytest.approx(n_firing / n_windows)
