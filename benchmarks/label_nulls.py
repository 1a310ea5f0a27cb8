"""Where the scores of labels lie when there is nothing to find: labels exchanged among features, and random weights.

Exchanged labels are right for nothing, so their scores have to lie at their baselines. A model of random weights is
another matter: its features answer to tokens, and a label that says so is true. What is measured there is how much of
a score needs no learning at all, and exchanged labels on it have to lie at their baselines as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import Bench, Figure, spread

if TYPE_CHECKING:
    from featuredb.database import FeatureDB

SCORERS = ("predicate-fit", "embedding", "rank")
N_SEEDS = 3
FIRST_SEED = 201
N_FEATURES = 400
"""Scored under each seed."""
N_TOKENS, N_TRAINED = 500_000, 1_000_000
LEAST = 0.95
"""Of exchanged labels, the share whose interval has to reach down to the baseline."""


@dataclass(frozen=True)
class Null:
    """What one scorer says of some labels."""

    scorer: str
    median: float
    baseline: float
    above: float
    """Share of labels whose whole interval lies above the baseline."""


def measure(bench: Bench) -> list[Figure]:
    trained, random = _trained(bench), _random(bench)
    figures, own = list[Figure](), dict[str, list[Null]]()
    for name, (store, dictionary) in {"trained": trained, "random weights": random}.items():
        own[name] = _scored(store, dictionary, FIRST_SEED, bench.choose(N_FEATURES, 20))
        found = []
        for seed in range(FIRST_SEED, FIRST_SEED + bench.choose(N_SEEDS, 1)):
            copy = bench.folder / f"exchanged-{seed}.fdb"
            shutil.copytree(store, copy)
            exchange_labels(copy, dictionary, seed)
            found.append(_scored(copy, dictionary, seed, bench.choose(N_FEATURES, 20)))
            shutil.rmtree(copy)
            bench.say(f"{name}, seed {seed}: {found[-1]}")
        figures += _exchanged(name, found)
    for name, nulls in own.items():
        for null in nulls:
            said = f"{null.median:.3f}, {null.above:.0%} above their baselines"
            how = f"labels of `plain`, the median's baseline {null.baseline:.3f}"
            figures.append(Figure(f"label_nulls: {null.scorer}, {name}", "", said, how))
    return figures


def _exchanged(name: str, found: Sequence[Sequence[Null]]) -> list[Figure]:
    figures = []
    for place, scorer in enumerate(SCORERS):
        mine = [nulls[place] for nulls in found]
        away = [null.median - null.baseline for null in mine]
        figures.append(
            Figure(
                f"label_nulls: {scorer} of exchanged labels, {name}",
                f"≥ {LEAST:.0%} not above baseline",
                spread([1 - null.above for null in mine]),
                f"the median score lies {spread(away, '+.3f')} from the median baseline; {len(mine)} seeds",
                min(1 - null.above for null in mine) >= LEAST,
            )
        )
    return figures


def _scored(path: Path, dictionary: str, seed: int, n: int) -> list[Null]:
    """What each scorer says of the shown labels of n features drawn by the seed."""
    import featuredb

    with featuredb.open(path) as db:
        chosen = np.random.default_rng((5, seed)).permutation(_labelled(db))[:n]
        features = [f"{dictionary}/{index}" for index in sorted(chosen.tolist())]
        rows = db.score(dictionary, scorers=SCORERS, features=features, seed=seed)
        return [
            Null(row.scorer, row.median or 0.0, row.median_baseline or 0.0, row.above_baseline or 0.0) for row in rows
        ]


def _labelled(db: FeatureDB) -> list[int]:
    from sqlalchemy import select

    from featuredb.store.catalog import LabelRow

    with db.store.reading() as session:
        return sorted(session.scalars(select(LabelRow.feature_index).where(LabelRow.text.is_not(None))).all())


def exchange_labels(path: Path, dictionary: str, seed: int) -> None:
    """Gives every labelled feature of a store the label of another one: text and predicate. Scores are forgotten.

    None keeps its own: the labels move on by one place along a random ring.
    """
    from sqlalchemy import delete, select

    import featuredb
    from featuredb.store.catalog import LabelRow, ScoreRow
    from featuredb.store.refs import get_dictionary

    with featuredb.open(path) as db, db.store.session() as session:
        wanted = select(LabelRow).where(
            LabelRow.dictionary_id == get_dictionary(session, dictionary).id, LabelRow.text.is_not(None)
        )
        rows = session.scalars(wanted.order_by(LabelRow.id)).all()
        session.execute(delete(ScoreRow))
        ring = [rows[place] for place in np.random.default_rng((6, seed)).permutation(len(rows)).tolist()]
        said = [(row.text, row.predicate) for row in ring]
        for row, (text, predicate) in zip(ring, [*said[1:], said[0]], strict=True):
            row.text, row.predicate, row.gain = text, predicate, None


def _trained(bench: Bench) -> tuple[Path, str]:
    """The demo's store, labelled."""
    import featuredb
    from featuredb.demo.tour import SHIPPED, run_demo
    from featuredb.progress import silent

    path = bench.folder / "nulls-trained.fdb"
    run_demo(path, train=False, progress=silent, n_tokens=bench.choose(N_TOKENS, 20_000))
    with featuredb.open(path) as db:
        db.label(SHIPPED)
    return path, SHIPPED


def _random(bench: Bench) -> tuple[Path, str]:
    """The same of the demo's model with weights as they are before any training; its dictionary is trained."""
    import featuredb
    from featuredb.capture.request import CaptureSettings, CorpusRequest, IngestRequest, ModelRequest
    from featuredb.demo.tour import training

    path, folder = bench.folder / "nulls-random.fdb", bench.folder / "random-model"
    if not folder.exists():
        _random_model(folder)
    request = replace(
        training(folder, bench.folder / "random-dictionary"),
        corpus=CorpusRequest("python-docs:tests", bench.choose(N_TRAINED, 20_480)),
    )
    with featuredb.open(path, create=True) as db:
        dictionary = db.train(request)
        corpus = CorpusRequest("python-docs", bench.choose(N_TOKENS, 20_000))
        settings = CaptureSettings(n_panel=512)
        db.ingest(IngestRequest(ModelRequest(str(folder)), (f"saelens:{dictionary}",), corpus, settings, name="random"))
        db.label("random")
    return path, "random"


def _random_model(folder: Path, seed: int = 0) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from featuredb.demo.tour import model_folder

    shipped = str(model_folder())
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(shipped)).float().save_pretrained(folder)
    AutoTokenizer.from_pretrained(shipped).save_pretrained(folder)
