"""How often the feature that stands for a concept is among the first that `correlate` finds from contrasting texts.

Concepts are known exactly, as predicates over tokens of Python text. The feature that stands for one in truth is the
best by F1 on documents that the store never saw and no text comes from. Texts are 32 snippets that end in the concept
and 32 that hold nothing of it, as a user would collect them. All choices (number, length and token of the texts, the
truth's thresholds) were made on other concepts than the fifty that are judged here.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Bench, Figure
from benchmarks.planted.concepts import BANK, JUDGED
from benchmarks.planted.documents import Marked, Side, chosen, marked
from benchmarks.planted.ranks import DEFAULT, ORDERS, TOP, Order, Placed, add, place, rankings
from benchmarks.planted.tables import Best, by_seed, precision, rate, rates, table_of_concepts, table_of_orders
from benchmarks.planted.texts import N_TEXTS, Snippets
from benchmarks.planted.truth import Truth, tally

if TYPE_CHECKING:
    from featuredb.database import FeatureDB

ASKED = 0.8
GOOD = 0.3
"""The F1 from which a feature is good at a concept; below it no feature is, and there is little to find."""

N_TRUTH_TOKENS = 300_000
"""Of each of the two halves."""
N_TEXT_TOKENS = 800_000
N_SEEDS = 5
DICTIONARY = "demo"


def measure(bench: Bench) -> list[Figure]:
    from featuredb.database import open as open_store

    judged = [number for number, concept in enumerate(BANK) if concept.name in JUDGED]
    with open_store(_store(bench)) as db:
        truth, ranked, snippets = _prepare(bench, db)
        best = _best(truth, ranked, judged[: bench.choose(len(judged), 2)])
        placed: dict[Order, list[Placed]] = {order: [] for order in ORDERS}
        for seed in range(bench.choose(N_SEEDS, 1)):
            # What no figure is asked of stands beside the rest for comparison, and is looked at once.
            orders = [order for order in ORDERS if seed == 0 or order.asked]
            for concept, known in best.items():
                texts = snippets.contrast(concept, seed, bench.choose(N_TEXTS, 6))
                for each in place(db, bench.folder, texts, orders, truth, known.feature, concept, seed):
                    placed[each.order].append(each)
            bench.say(f"choice of texts {seed + 1} ranked")
        default = _default(db, bench.folder, snippets.contrast(next(iter(best)), 0), truth.f1.shape[1])
    good = frozenset(concept for concept, known in best.items() if known.f1 >= GOOD)
    bench.details["Where each order puts the planted concepts' features"] = table_of_orders(placed, good)
    bench.details["Where each planted concept's feature comes"] = table_of_concepts(placed, best)
    asked = {order: those for order, those in placed.items() if order.asked}
    return [*(_figure(order, those) for order, those in asked.items()), _winner(asked, default)]


def _store(bench: Bench) -> Path:
    """A store of the demo's that may be written to."""
    from benchmarks.demo import demo_store
    from featuredb.demo.tour import run_demo
    from featuredb.progress import silent

    path = bench.folder / "planted.fdb"
    if bench.quick:
        run_demo(path, train=False, progress=silent, n_tokens=20_000)
    else:
        shutil.copytree(demo_store(bench), path)
    return path


def _prepare(bench: Bench, db: FeatureDB) -> tuple[Truth, NDArray[np.bool_], Snippets]:
    """The truth, which features an answer may hold, and what texts are cut from."""
    from featuredb.corpora import open_corpus
    from featuredb.search.running import Running
    from featuredb.search.scope import well_sampled
    from featuredb.store.segments import SegmentReader

    running = Running(db.store, SegmentReader(db.store))
    loaded = running.open(DICTIONARY)
    figures = running.figures(loaded.reading)
    documents = list(open_corpus("python-docs"))
    ingested = {row["name"] for row in db.sql("select name from document").to_pylist()}

    def stretches(wanted: Side, n_tokens: int) -> list[Marked]:
        return list(marked(chosen(documents, wanted, ingested), loaded.model, BANK, n_tokens))

    n_tokens = bench.choose(N_TRUTH_TOKENS, 8_000)
    halves: tuple[Side, Side] = ("tune", "judge")
    tallies = [tally(stretches(half, n_tokens), loaded, figures.largest, len(BANK)) for half in halves]
    bench.say(f"truth of {' and '.join(format(each.n, ',') for each in tallies)} tokens")
    snippets = Snippets(stretches("texts", bench.choose(N_TEXT_TOKENS, 40_000)), loaded.model)
    return Truth.of(*tallies), well_sampled({"n_fires": figures.n_fires}), snippets


def _best(truth: Truth, ranked: NDArray[np.bool_], concepts: Sequence[int]) -> dict[int, Best]:
    """The feature of the best F1 for each concept, among those that an answer may hold."""
    found = {}
    for concept in concepts:
        f1 = np.where(ranked, truth.f1[concept], -1.0)
        feature = int(f1.argmax())
        precision = float(truth.precision[concept, feature])
        found[concept] = Best(BANK[concept].name, feature, float(f1[feature]), precision)
    return found


def _default(db: FeatureDB, folder: Path, texts: tuple[Sequence[str], Sequence[str]], limit: int) -> Order:
    """The order that `correlate` takes when it is not told one."""
    name = add(db, folder, texts, DEFAULT.method)
    orders = {order.by: order for order in (DEFAULT, *ORDERS) if order.method == DEFAULT.method}
    found = dict(rankings(db, name, list(orders), limit))
    return next(order for by, order in orders.items() if by is not None and found[by] == found[None])


def _figure(order: Order, placed: Sequence[Placed]) -> Figure:
    n = len({each.concept for each in placed})
    return Figure(
        f"planted concepts, {order.title}",
        f"≥ {ASKED:.0%} of {n} in the first {TOP}",
        f"{rates(placed)}; precision of the first ten {precision(placed):.2f}",
        f"{N_TEXTS} + {N_TEXTS} texts, last token, {N_SEEDS} choices of them; best feature by F1 in truth",
        rate(placed) >= ASKED,
    )


def _winner(asked: Mapping[Order, Sequence[Placed]], default: Order) -> Figure:
    """One order beats another where it finds more of the features with every choice of texts. Of those that none beats,
    which a few concepts more or less tell apart, the one whose first ten are the most precise wins."""
    seeds = {order: by_seed(placed) for order, placed in asked.items()}
    unbeaten = [
        order
        for order, mine in seeds.items()
        if not any(all(a > b for a, b in zip(theirs, mine, strict=True)) for theirs in seeds.values())
    ]
    precisions = {order: round(precision(asked[order]), 2) for order in unbeaten}
    most = max(precisions.values())
    return Figure(
        "planted concepts, order by default",
        "the one that wins",
        f"{default.title}; {' and '.join(order.title for order in unbeaten if precisions[order] == most)} wins",
        f"the most precise of those that no other beats with each choice of texts: "
        f"{', '.join(order.title for order in unbeaten)}",
        precisions.get(default) == most,
    )
