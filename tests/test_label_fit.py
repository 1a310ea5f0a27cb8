"""The maths of predicate fit, against numpy and scikit-learn over every token of runs where all is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, cohen_kappa_score, precision_recall_fscore_support

from featuredb.labels.fit import (
    Draws,
    Panel,
    Sample,
    Samples,
    average_precision,
    figures,
    fit,
    kappa,
    near_firings,
    samples_of,
    strong_kappa,
)
from featuredb.store.layout import RADIUS
from tests.planted_run import PlantedRun, contexts_of

LENGTH, N_CONTEXTS = 120, 500
N = LENGTH * N_CONTEXTS
Mask = NDArray[np.bool_]


def bursts(seed: int, share: float = 0.1) -> NDArray[np.float32]:
    """(N,) a feature that fires in some contexts: strongly in one place, and weakly after it, near and far."""
    rng = np.random.default_rng(seed)
    acts = np.zeros((N_CONTEXTS, LENGTH), np.float32)
    for context in np.flatnonzero(rng.random(N_CONTEXTS) < share):
        acts[context, rng.integers(0, 20)] = rng.uniform(8, 10)
        near = rng.integers(20, 50, 3)
        far = rng.integers(60, LENGTH, rng.integers(0, 5))
        acts[context, near] = rng.uniform(3, 5, 3)
        acts[context, far] = rng.uniform(1, 2, len(far))
    return acts.ravel()


def expression(acts: NDArray[np.float32], seed: int) -> Mask:
    """(N,) something that holds of most strong firings, of few weak ones, and of some silent tokens."""
    chance = np.select([acts > 6, acts > 2.5, acts > 0], [0.9, 0.5, 0.1], 0.02)
    holds: Mask = np.random.default_rng(seed).random(N) < chance
    return holds


def run(acts: NDArray[np.float32], seed: int, n_panel: int = 60, n_samples: int = 16) -> PlantedRun:
    text = contexts_of(np.zeros(N, np.int32), LENGTH, ["x"])
    return PlantedRun(text, acts.reshape(N, -1), n_panel, n_samples, seed)


def sample_of(planted: PlantedRun) -> Sample:
    return Samples(planted.evidence).of(0)


def test_with_every_context_on_the_panel_all_figures_are_those_over_all_tokens() -> None:
    acts = bursts(1)
    holds = expression(acts, 2)
    planted = run(acts, 0, n_panel=N_CONTEXTS)
    sample, panel = sample_of(planted), Panel(planted.passages)
    found = figures(panel.total(sample, holds), sample.density, prior=0.0)
    precision, recall, f1, _ = precision_recall_fscore_support(acts > 0, holds, average="binary")
    assert found.precision == pytest.approx(precision)
    assert found.recall == pytest.approx(recall)
    assert found.f1 == pytest.approx(f1)
    assert found.base == pytest.approx(holds.mean())
    assert found.pearson == pytest.approx(np.corrcoef(holds, acts)[0, 1])
    assert average_precision(sample, holds, float(found.base)) == pytest.approx(average_precision_score(holds, acts))
    both, density = np.mean([holds & (acts > 0)], axis=1), sample.density
    assert kappa(both, np.mean([holds], axis=1), density) == pytest.approx(cohen_kappa_score(holds, acts > 0))
    equal = replace(sample, activation=np.ones(len(sample.at), np.float32))
    tally = panel.total(equal, holds)
    assert strong_kappa(tally, density, prior=0.0) == pytest.approx(cohen_kappa_score(holds, acts > 0))


def test_a_tally_by_documents_adds_up_to_the_total() -> None:
    acts = bursts(3)
    holds = expression(acts, 4)
    planted = run(acts, 1)
    sample, panel = sample_of(planted), Panel(planted.passages)
    assert panel.tally(sample, holds).sum(axis=0) == pytest.approx(panel.total(sample, holds))


def test_near_firings_are_those_an_example_of_their_context_would_show() -> None:
    planted = run(bursts(5), 2)
    firings, passages = planted.panel(0, 1), planted.passages
    near = near_firings(firings, passages)
    assert near.any()
    assert not near.all()
    for context in np.flatnonzero(passages.panel):
        inside = (firings.at >= passages.start[context]) & (firings.at < passages.start[context + 1])
        if inside.any():
            at, activation = firings.at[inside], firings.activation[inside]
            peak = at[np.argmax(activation)]
            assert near[inside].tolist() == (np.abs(at - peak) <= RADIUS).tolist()


def test_weights_add_up_to_one_and_a_part_weighs_nothing_outside_itself() -> None:
    planted = run(bursts(6), 3)
    sample = sample_of(planted)
    assert not sample.near.all()
    assert not sample.on_panel.all()
    assert sample.weights().sum() == pytest.approx(1)
    kept = sample.at < N // 2
    weights = sample.weights(kept)
    assert weights.sum() == pytest.approx(1)
    assert not weights[~kept].any()
    assert sample.strengths(kept).sum() == pytest.approx(1)


def test_figures_of_a_rare_feature_are_unbiased() -> None:
    acts = bursts(7, share=0.12)
    fires = acts > 0
    holds = expression(acts, 8)
    silent = holds[~fires].mean()
    names = ("holds", "strength", "strength where it holds")
    truth = np.array([holds[fires].mean(), acts[fires].mean(), (acts * holds)[fires].mean()])
    together, pooled, panel_alone, seen = [], [], [], []
    for seed in range(300):
        planted = run(acts, seed)
        sample = sample_of(planted)
        x, a = holds[sample.at], sample.activation.astype(np.float64)
        values = np.stack([x, a, a * x])
        together.append(values @ sample.weights())
        pooled.append(values.mean(axis=1))
        panel_alone.append(values[:, sample.on_panel].mean(axis=1))
        panel = Panel(planted.passages)
        seen.append(holds[panel.at][acts[panel.at] == 0].mean())
    mean, error = np.mean(together, axis=0), np.std(together, axis=0) / np.sqrt(300)
    assert np.abs(mean - truth) / truth == pytest.approx(0, abs=0.02), dict(zip(names, mean / truth, strict=True))
    assert np.mean(seen) == pytest.approx(silent, rel=0.02)
    # Firings taken together as they come are no fair sample, and the panel alone knows less.
    assert (np.abs(np.mean(pooled, axis=0) - truth) > 5 * error).all()
    ratio = np.std(together, axis=0) / np.std(panel_alone, axis=0)
    assert (ratio < 1).all()
    assert ratio[[0, 2]].max() < 0.9


def test_a_feature_that_never_fires_on_the_panel_is_known_by_its_sample() -> None:
    acts = np.zeros(N, np.float32)
    planted = run(acts, 0)
    off = np.flatnonzero(~planted.passages.panel)[:10]
    acts = acts.copy()
    acts[planted.passages.start[off] + 7] = 2.0
    planted = replace(planted, activations=acts.reshape(N, 1))
    holds = acts > 0
    sample, panel = sample_of(planted), Panel(planted.passages)
    assert not sample.on_panel.any()
    found = fit(sample, holds, panel, Draws(panel.n_groups, 0))
    assert found.recall == pytest.approx(1)
    assert found.n_firing == 10
    # No silent token is known to carry it, but only some thousands were looked at.
    expected = found.recall * sample.density / (sample.density + 0.5 / len(panel.at))
    assert found.precision == pytest.approx(expected, rel=0.01)
    assert found.low < found.pearson < 1


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    acts = bursts(9, share=0.3)
    holds = expression(acts, 10)
    truth = np.corrcoef(holds, acts)[0, 1]
    covered = []
    for seed in range(80):
        planted = run(acts, seed, n_panel=150, n_samples=40)
        panel = Panel(planted.passages)
        assert panel.by_document
        found = fit(sample_of(planted), holds, panel, Draws(panel.n_groups, seed))
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) >= 0.85


def test_few_documents_make_contexts_what_is_drawn_anew() -> None:
    acts = bursts(11)
    text = contexts_of(np.zeros(N, np.int32), LENGTH, ["x"], per_document=100)
    planted = PlantedRun(text, acts.reshape(N, 1), 60, 16)
    panel = Panel(planted.passages)
    assert not panel.by_document
    assert panel.n_groups == N_CONTEXTS
    found = fit(sample_of(planted), expression(acts, 12), panel, Draws(panel.n_groups, 0))
    assert found.low < found.pearson < found.high


def test_the_same_seed_gives_the_same_interval_and_another_a_like_one() -> None:
    acts = bursts(13)
    holds = expression(acts, 14)
    planted = run(acts, 5)
    sample, panel = sample_of(planted), Panel(planted.passages)
    one, same, other = (fit(sample, holds, panel, Draws(panel.n_groups, seed)) for seed in (0, 0, 1))
    assert one == same
    assert (one.low, one.high) != (other.low, other.high)
    assert one.low == pytest.approx(other.low, abs=0.05)


def test_too_narrow_and_too_broad_an_expression_fits_worse() -> None:
    acts = bursts(15)
    planted = run(acts, 6)
    sample, panel = sample_of(planted), Panel(planted.passages)

    def pearson(holds: Mask) -> float:
        return float(figures(panel.total(sample, holds), sample.density).pearson)

    rng = np.random.default_rng(0)
    right = acts > 0
    narrow, broad = right & (rng.random(N) < 0.5), right | (rng.random(N) < 0.02)
    assert pearson(narrow) < pearson(right)
    assert pearson(broad) < pearson(right)
    assert abs(pearson(rng.random(N) < 0.05)) < 0.1


def test_samples_come_in_the_order_asked_and_do_not_depend_on_each_other() -> None:
    acts = np.stack([bursts(seed) for seed in range(3)], axis=1)
    planted = PlantedRun(contexts_of(np.zeros(N, np.int32), LENGTH, ["x"]), acts, 60, 16)
    found = list(samples_of(planted.evidence, [2, 0]))
    assert [sample.feature for sample in found] == [2, 0]
    alone = Samples(planted.evidence).of(0)
    assert np.array_equal(found[1].at, alone.at)
    assert np.array_equal(found[1].activation, alone.activation)
    assert len(found[1].contexts(planted.passages, 5)) == 5
