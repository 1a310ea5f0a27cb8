"""The check of labels: what each channel tells, what the margin makes of it, and what is said of planted labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from featuredb.audit import margin, meant
from featuredb.audit.alternatives import by_decile, right_at_the_top
from featuredb.audit.comparing import Comparing
from featuredb.audit.lexical import Lexicon, read, stem, usual_stems
from featuredb.audit.margin import margins
from featuredb.audit.requests import AuditRequest, Judged
from featuredb.audit.samples import Fitting, thin
from featuredb.audit.verdicts import judge_margins
from featuredb.errors import BadInput
from featuredb.labels.fit import Panel, Samples, figures
from featuredb.labels.requests import LabelToScore
from featuredb.plugins import Registry
from featuredb.predicates.tagged import Tagged
from featuredb.testing.truth.labels import auroc, swap
from tests.planted_run import PlantedRun, contexts_of
from tests.small_passages import Piece, passages_of
from tests.toy_embedder import Toy

WORDS = [" RED", " BLUE", " GREEN", " 1", " 2", " 3", " red", " blue", " green", ",", ".", ";", " the", " of", " and"]
LABELS = {
    "words in capitals": (0, 1, 2),
    "whole numbers": (3, 4, 5),
    'the words "red", "blue", "green"': (6, 7, 8),
    "commas": (9,),
    "full stops": (10,),
    'the word "the"': (12,),
    'the words "of" and "and"': (13, 14),
}
"""Seven features, by their right labels: the tokens they fire on."""


class NoWeights:
    """A dictionary of which only the firings are known."""

    def nearest(self, n: int) -> Any:
        raise BadInput("there are no weights")


class Texts:
    """Texts as a workshop embeds them."""

    embedder = Toy().load(None)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embedder.embed(texts)


def planted(seed: int) -> PlantedRun:
    """A run of seven features, each firing on nearly all of its tokens."""
    random = np.random.default_rng(seed)
    token = random.integers(0, len(WORDS), 12_000)
    fires = np.stack([np.isin(token, right) for right in LABELS.values()], axis=1)
    activations = np.where(fires & (random.random(fires.shape) < 0.95), random.uniform(1, 2, fires.shape), 0)
    return PlantedRun(contexts_of(token, 60, WORDS), activations.astype(np.float32), 60, 32, seed)


def request(labels: dict[int, LabelToScore]) -> AuditRequest:
    audit, labeling = planted(1), planted(2)
    return AuditRequest(
        features=range(len(LABELS)),
        everything=cast(Any, audit),
        audit=cast(Any, audit),
        labeling=cast(Any, labeling),
        panel=cast(Any, None),
        labels=labels,
        directions=cast(Any, NoWeights()),
        states=cast(Any, None),
        texts=cast(Any, Texts()),
    )


def right_labels() -> dict[int, LabelToScore]:
    return {feature: LabelToScore(feature + 1, feature, text, None) for feature, text in enumerate(LABELS)}


def judged(labels: dict[int, LabelToScore]) -> dict[int, Judged]:
    return {found.feature: found for found in Registry.installed().check("mislabelled").audit(request(labels))}


def test_wrong_labels_in_words_alone_are_told_with_a_better_one_and_right_ones_are_not_flagged() -> None:
    labels = right_labels()
    labels[0] = replace(labels[0], text="Internet snippets and excerpts")
    found = judged(labels)
    assert [feature for feature, one in found.items() if one.flagged] == [0]
    wrong = found[0]
    assert wrong.name in (None, "mislabelled")
    assert "capital" in (wrong.suggestion or "")
    assert wrong.evidence["better"]["pearson"] > 0.8 > wrong.evidence["own"]["pearson"]
    assert wrong.evidence["examples"]
    assert wrong.score > max(one.score for feature, one in found.items() if feature)
    assert wrong.label_id == labels[0].label_id


def test_labels_with_a_part_that_says_too_little_or_too_much_are_named_so() -> None:
    labels = right_labels()
    labels[2] = replace(labels[2], predicate={"token": [" red"]})
    labels[6] = replace(labels[6], predicate={"token": [" of", " and", " the", " red", " blue", " green"]})
    found = judged(labels)
    assert (found[2].name, found[6].name) == ("too-narrow", "too-broad")
    assert found[2].flagged
    assert found[6].flagged
    assert not found[0].flagged


def test_features_that_fired_too_rarely_are_left_out() -> None:
    asked = request(right_labels())
    asked.audit.n_fires[3] = 199
    assert 3 not in {found.feature for found in Registry.installed().check("mislabelled").audit(asked)}


def test_figures_of_masks_are_those_of_fit_when_all_firings_are_kept() -> None:
    run = planted(3)
    short = replace(run, n_panel=8, n_samples=12)
    panel, tagged = Panel(short.passages), Tagged(short.passages)
    sample, thinned = Samples(short.evidence).of(0), thin(cast(Any, short), [0], 0)
    fitting = Fitting(thinned, len(panel.at))
    assert len(thinned.at) == len(sample.at)
    for expression in ({"is": "case.upper_word"}, {"token": [" RED", ","]}, {"is": "digit.any"}):
        holds = tagged.holds(expression)
        expected = figures(panel.total(sample, holds), sample.density)
        n_held = int(holds[panel.at].sum())
        for found in (
            fitting.of_one(0, holds[thinned[0].at][None], np.array([n_held])),
            fitting.of_mask(np.array([0]), holds, n_held),
        ):
            for name in ("recall", "precision", "f1", "pearson"):
                assert getattr(found, name)[0] == pytest.approx(float(getattr(expected, name)), rel=1e-4)


def test_features_looked_at_in_blocks_get_the_figures_they_have_together(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Comparing(request(right_labels()), range(len(LABELS))).compare()
    for module in (meant, margin):
        monkeypatch.setattr(module, "AT_ONCE", 2)
    comparing = Comparing(request(right_labels()), range(len(LABELS)))
    by_twos = comparing.compare()
    assert by_twos.figures == pytest.approx(together.figures, abs=1e-5, nan_ok=True)
    assert judge_margins(by_twos).support == pytest.approx(judge_margins(together).support, rel=1e-3)
    comparing.remember()
    assert comparing.compare().figures == pytest.approx(together.figures, abs=1e-5, nan_ok=True)


def test_its_own_label_stands_first_and_its_reach_is_what_fit_says() -> None:
    labels = right_labels()
    labels[2] = replace(labels[2], predicate={"token": [" red"]})
    asked = request(labels)
    compared = Comparing(asked, range(len(LABELS))).compare()
    assert [compared.labels[number] for number in compared.met[:, 0].tolist()] == list(labels.values())
    own = compared.own_tokens[2]
    assert own is not None
    assert own.executable
    panel, tagged = Panel(asked.audit.passages), Tagged(asked.audit.passages)
    sample = Samples(asked.audit).of(2)
    expected = figures(panel.total(sample, tagged.holds({"token": [" red"]})), sample.density)
    # Some hundred firings stand for all of them.
    assert (own.recall, own.precision) == pytest.approx((float(expected.recall), float(expected.precision)), abs=0.05)
    assert all(compared.other(place, -1) is None for place in range(len(LABELS)))


@pytest.mark.parametrize(
    ("label", "named"),
    [
        ("files and paths", {" file", " Files", " path"}),
        ('the token "the"; pushes towards "file"', {" the"}),
        ("the words that follow it", set()),
        ('"file" or "Files"', {" file", " Files"}),
    ],
)
def test_a_label_names_the_tokens_of_its_words(label: str, named: set[str]) -> None:
    passages = passages_of(Piece("open the file of Files at a path"))
    holds = Lexicon(Tagged(passages)).holds(label)
    found = set() if holds is None else {passages.texts[token] for token in passages.token[holds].tolist()}
    assert found == named


def test_inflections_share_a_stem_and_words_of_every_label_name_nothing() -> None:
    assert len({stem(word) for word in ("file", "files", "filed", "filing", "Files")}) == 1
    assert len({stem(word) for word in ("entry", "entries")}) == 1
    assert usual_stems(["a capital " + chr(97 + n % 26) * 3 for n in range(120)]) == {"capital"}
    assert read('the word "CAPITAL"').quoted == ("CAPITAL",)


def test_margins_tell_planted_labels_and_random_ones_are_uniform() -> None:
    random = np.random.default_rng(0)
    n, m = 600, 50
    wrong = random.random(n) < 0.3
    own = random.standard_normal((n, 3)) + np.where(wrong, 0, 1)[:, None] * np.array([5.0, 2.0, 0.0])
    decoys = random.standard_normal((n, 3, m)).astype(np.float32)
    found = margins(own.astype(np.float32), decoys, np.full((n, 3, 0), np.nan, np.float32), np.ones(3))
    assert roc_auc_score(wrong, -found.support) > 0.99
    assert found.share_wrong == pytest.approx(0.3, abs=0.08)
    assert np.quantile(found.p_random[wrong], [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.12)
    assert (found.p_sound[~wrong] <= 0.05).mean() <= 0.08


def test_decoys_that_are_missing_are_no_decoys() -> None:
    random = np.random.default_rng(4)
    n = 90
    decoys = np.full((n, 2, 50), np.nan, np.float32)
    decoys[:, :, :29] = random.standard_normal((n, 2, 29))
    rivals = np.full((n, 2, 0), np.nan, np.float32)
    few = margins(random.standard_normal((n, 2)).astype(np.float32), decoys, rivals, np.ones(2))
    assert np.quantile(few.p_random, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.12)
    assert few.best_rival.max() < 29


def test_a_label_is_held_against_no_other_of_its_text() -> None:
    labels = {feature: replace(label, text="words in capitals") for feature, label in right_labels().items()}
    labels[5] = replace(labels[5], text="the word the")
    compared = Comparing(request(labels), range(len(LABELS))).compare()
    for place, feature in enumerate(compared.features):
        met = [compared.labels[number].text for number in compared.met[place, 1:].tolist() if number >= 0]
        assert labels[feature].text not in met


def test_a_label_that_a_rival_beats_loses_what_the_rival_has_more() -> None:
    random = np.random.default_rng(1)
    decoys = random.standard_normal((4, 1, 50)).astype(np.float32)
    own, rivals = np.full((4, 1), 3.0, np.float32), np.array([[[2.0]], [[np.nan]], [[6.0]], [[20.0]]], np.float32)
    found = margins(own, decoys, rivals, np.ones(1))
    assert found.support[2] > found.support[3]
    assert found.best_rival[2] == 0


def test_tenths_of_the_firings_tell_what_is_right_at_the_top_alone() -> None:
    activation = np.linspace(1, 0.01, 200).astype(np.float32)
    weight = np.full(200, 1 / 200, np.float32)
    shares = by_decile(activation, weight, np.arange(200) < 40)
    assert shares == pytest.approx([1, 1] + [0] * 8, abs=1e-3)
    assert right_at_the_top(shares, 0.01)
    assert not right_at_the_top(by_decile(activation, weight, np.arange(200) % 2 == 0), 0.01)


def test_swapped_labels_are_others_of_like_density_and_the_rest_stay() -> None:
    labels = {feature: LabelToScore(feature, feature, f"label {feature}", None) for feature in range(200)}
    density = np.random.default_rng(0).random(200)
    found = swap(labels, 5, density=density)
    assert len(found.wrong) == 60
    assert sorted(label.text for label in found.labels.values()) == sorted(label.text for label in labels.values())
    assert all((found.labels[each].text != labels[each].text) == (each in found.wrong) for each in labels)
    pairs = swap(labels, 5, partners={each: [each ^ 1] for each in labels})
    assert all(pairs.labels[each].text == f"label {each ^ 1}" for each in pairs.wrong)


def test_the_auroc_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(2)
    scores, positive = random.integers(0, 9, 80).astype(float), random.random(80) < 0.3
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
