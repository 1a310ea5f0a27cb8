"""A page of fifty features drawn at random, with label, figures and examples as they are, for a reader to judge.

    python -m benchmarks.fifty --db demo.fdb [--dictionary demo] [--seed 0] [--out docs/labels-sample.md]

Rule: what is shown is drawn by the seed alone; no figure has a say in it, and nothing is edited.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import ROOT
from featuredb.labels.split import half_of
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.visible import visible

if TYPE_CHECKING:
    import featuredb
    from featuredb.label_records import LabelRow
    from featuredb.records import ExampleRow, FeatureCard

PAGE = ROOT / "docs" / "labels-sample.md"
N_FEATURES = 50
N_EXAMPLES = 4
MOST_KEPT = 10_000
"""Above what any run keeps of a feature."""
BEFORE, AFTER = 60, 40
"""Characters shown on either side of the strongest token."""
SCORERS = {"predicate-fit": "predicate", "embedding": "embedding", "rank": "rank"}
HEADER = """\
# Fifty labels, drawn at random

Written by `python -m benchmarks.fifty` (seed {seed}) from what `featuredb demo`, `featuredb label make {dictionary}`
and `featuredb score {dictionary}` left. Nothing was chosen, changed or left out by hand: the {n} features are drawn,
each as likely as any other, from the {of:,} of {all:,} that fired on {least} tokens or more.

The examples are of documents that the labeler never saw, drawn from the uniform sample of the contexts in which the
feature fires, not from the strongest; strongest first. «…» marks the context's strongest token, and the share before
the text is how its activation compares with the feature's largest. ⏎ is a line break. `predicate` is Pearson's
correlation of the label's executable part with the activation, and `F1` goes with it; `embedding` is an AUROC; `rank`
is the share of comparisons with other features' labels that it wins. In brackets: the 95% interval, and what other
features' labels score. [labels.md](labels.md) says how each is taken.

Over the {n}: {medians}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fifty", description="Writes a page of random labels.")
    parser.add_argument("--db", type=Path, required=True, help="a store whose dictionary is labelled and scored")
    parser.add_argument("--dictionary", default="demo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PAGE, help=f"by default {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    import featuredb

    with featuredb.open(arguments.db) as db:
        text = page(db, arguments.dictionary, arguments.seed)
    arguments.out.write_text(text, encoding="utf-8")


def page(db: featuredb.FeatureDB, dictionary: str, seed: int, n: int = N_FEATURES) -> str:
    """The page, Markdown, of the well-sampled features of a dictionary."""
    found = db.sql("select feature, n_fires from feature where dictionary = $name", name=dictionary).to_pylist()
    enough = sorted({row["feature"] for row in found if row["n_fires"] >= ENOUGH_FIRINGS})
    drawn = sorted(random.Random(seed).sample(enough, min(n, len(enough))))
    cards = [db.feature(f"{dictionary}/{feature}", n_examples=MOST_KEPT) for feature in drawn]
    head = HEADER.format(
        seed=seed,
        dictionary=dictionary,
        n=len(drawn),
        of=len(enough),
        all=len({row["feature"] for row in found}),
        least=ENOUGH_FIRINGS,
        medians=_medians(cards),
    )
    return head + "".join(f"\n{_entry(card, seed)}" for card in cards)


def _entry(card: FeatureCard, seed: int) -> str:
    """One feature: its label, its figures, and examples in an indented block."""
    label = _shown(card)
    text = "no label" if label is None else visible(label.text)
    known = [] if card.density is None else [f"fires on {card.density:.2%} of tokens"]
    known += [] if label is None else [label.labeler, *_figures(label)]
    examples = "\n".join(f"    {_example(example, card)}" for example in _drawn(card, seed))
    return f"## {card.dictionary}/{card.index}: {_escaped(text)}\n\n{'; '.join(known)}\n\n{examples}\n"


def _shown(card: FeatureCard) -> LabelRow | None:
    return next((label for label in card.labels if label.text == card.label), None)


def _scores(label: LabelRow) -> dict[str, dict[str, Any]]:
    """Its figures by title; of scorers that scored it more than once, the newest."""
    found = {score["scorer"].split(".")[0]: score for score in label.scores if score["value"] is not None}
    return {title: found[name] for name, title in SCORERS.items() if name in found}


def _figures(label: LabelRow) -> list[str]:
    said = []
    for title, score in _scores(label).items():
        about = [f"{_rounded(score['low'])} to {_rounded(score['high'])}"] if score["low"] is not None else []
        about += [f"others {_rounded(score['baseline'])}"] if score["baseline"] is not None else []
        f1 = score["details"].get("f1")
        said.append(
            f"{title} {_rounded(score['value'])} ({', '.join(about)})" + ("" if f1 is None else f", F1 {f1:.2f}")
        )
    return said


def _rounded(value: float) -> str:
    """Two places, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _medians(cards: Sequence[FeatureCard]) -> str:
    """The median of each figure over the features that have it."""
    from statistics import median

    found: dict[str, list[float]] = {}
    for label in filter(None, map(_shown, cards)):
        for title, score in _scores(label).items():
            found.setdefault(title, []).append(score["value"])
            if "f1" in score["details"]:
                found.setdefault("F1", []).append(score["details"]["f1"])
    names = [name for name in ("predicate", "F1", "embedding", "rank") if name in found]
    return ", ".join(f"median {name} {median(found[name]):.2f}" for name in names) or "no figures"


def _drawn(card: FeatureCard, seed: int) -> list[ExampleRow]:
    """Some of the uniform sample, of documents that the labeler did not see; strongest first."""
    held_out = [
        example
        for example in card.examples
        if example.kind == "sample" and example.document is not None and half_of(example.document) == "scoring"
    ]
    drawn = random.Random(f"{seed} {card.index}").sample(held_out, min(N_EXAMPLES, len(held_out)))
    return sorted(drawn, key=lambda example: -abs(example.activation))


def _example(example: ExampleRow, card: FeatureCard) -> str:
    tokens = [visible(token) for token in example.tokens]
    peak = example.position - example.window_start
    before, after = "".join(tokens[:peak]), "".join(tokens[peak + 1 :])
    left = f"…{before[-BEFORE:]}" if len(before) > BEFORE else before
    right = f"{after[:AFTER]}…" if len(after) > AFTER else after
    share = abs(example.activation / card.max_activation) if card.max_activation else 0.0
    return f"{share:4.0%}  {left}«{tokens[peak]}»{right}"


def _escaped(text: str) -> str:
    """Text as Markdown shows it letter by letter."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)


if __name__ == "__main__":
    main()
