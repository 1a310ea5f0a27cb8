"""A store with planted features for labelers and judges: what each fires on is a rule that a test can check."""

from __future__ import annotations

import atexit
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from featuredb.labels.answers import AnswerCache
from featuredb.labels.evidence import Evidence
from featuredb.labels.requests import LabelRequest, LabelToScore, Proposal, ScoreRequest
from featuredb.labels.split import Half
from featuredb.labels.workshop import Workshop
from featuredb.store.files import describe_file, rename_into_place
from featuredb.store.layout import CONTEXT_TABLES, FEATURE_TABLES, RADIUS, SEGMENT_SCHEMA, Layout, create_tables
from featuredb.store.refs import get_dictionary
from featuredb.store.runs import CorpusRecord, DictionaryRecord, RunRecord, SegmentRecord, commit_run
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store
from featuredb.store.vectors import Rows, write_index
from featuredb_plugins.openai import OpenAI
from tests.llm_server import LlmServer, Seen, Sent, label
from tests.small_store import MODEL

RUN, NAME, HOOK = "planted-run", "planted", "layers.0.resid_post"
N_CONTEXTS, LENGTH, N_PANEL = 240, 48, 120
DIGITS, CAPITALS, PERCENT, DEAD, RARE = range(5)
PLAIN = [" lamp", " river", " stone", " under", " over", " quiet", " door", " seven", " garden", ",", ".", "\n"]
WORDS = [*PLAIN, *(f" {n}" for n in (3, 17, 256, 1999)), " NASA", " BBC", " percent", " <b>", " <<", " tail"]
RULES: dict[int, Callable[[str], bool]] = {
    DIGITS: lambda text: any(c.isdigit() for c in text),
    CAPITALS: lambda text: bool(re.search("[A-Z]{2}", text)),
    PERCENT: lambda text: "percent" in text,
    DEAD: lambda text: False,
    RARE: lambda text: "tail" in text,
}
GOOD = (DIGITS, CAPITALS, PERCENT)
"""Features that fire often enough to be labeled."""
LABELS = {DIGITS: "digits", CAPITALS: "words in capitals", PERCENT: "the word percent", RARE: "the word tail"}


def build(path: Path) -> None:
    """240 documents of one context each, half of them on the panel; features that fire on digits, capitals, ..."""
    shutil.copytree(_template(), path)


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="featuredb-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with Store.create(folder / "planted.fdb") as store:
        _fill(store)
    return folder / "planted.fdb"


def _fill(store: Store, seed: int = 0) -> None:
    tokens = _tokens(np.random.default_rng(seed))
    unfinished = Layout(store.paths.work_folder(RUN) / "done")
    unfinished.run_folder(RUN).mkdir(parents=True)
    unfinished.dictionary_folder(NAME).mkdir(parents=True)
    _write_contexts(unfinished.contexts(RUN), tokens)
    n_examples, n_panel = _write_segment(unfinished.segment(RUN, NAME), tokens, np.random.default_rng(seed + 1))
    moments, response = unfinished.moments(RUN, HOOK), unfinished.response(RUN, NAME)
    save_file({"n": np.array([1]), "mean": np.zeros(4), "covariance": np.eye(4)}, moments)
    save_file({"response": np.zeros((len(RULES), 4), np.float32)}, response)
    # PERCENT lies near DIGITS, so that it is the neighbour whose texts are the hard ones.
    rows = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.9, 0.3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.float32)
    save_file({"w_dec": rows[:, None]}, unfinished.weights(NAME))
    write_index(Rows(unfinished.weights(NAME), "w_dec"), unfinished.decoder_index(NAME))
    places = {
        "contexts": unfinished.contexts(RUN),
        "moments": moments,
        "segment": unfinished.segment(RUN, NAME),
        "response": response,
        "weights": unfinished.weights(NAME),
        "decoder-index": unfinished.decoder_index(NAME),
    }
    files = [
        describe_file(
            place, unfinished.relative(place), role, dictionary=None if role in ("contexts", "moments") else NAME
        )
        for role, place in places.items()
    ]
    paths = unfinished.relative(places["segment"]), unfinished.relative(moments)
    rename_into_place(unfinished.root, store.path)
    run = RunRecord(
        key=RUN,
        model=MODEL,
        corpus=CorpusRecord("planted", "text:planted", "text.v1"),
        n_tokens=tokens.size,
        n_contexts=N_CONTEXTS,
        n_kept=N_CONTEXTS,
        context_length=LENGTH,
        packing="concat",
        seed=seed,
        settings={"dtype": "float32"},
        versions={"featuredb": "0"},
    )
    fingerprint = hashlib.sha256(b"planted").hexdigest()
    record = DictionaryRecord(NAME, "sae", "./planted", "saelens.v1", HOOK, len(RULES), 4, 4, fingerprint, (HOOK,))
    commit_run(store, run, [SegmentRecord(record, paths[0], len(RULES), n_examples, n_panel, paths[1])], files)


def _tokens(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """(contexts, length) ids; each thing that a feature fires on is in some contexts and not in others."""
    tokens = rng.integers(0, len(PLAIN), (N_CONTEXTS, LENGTH))
    for first, last, share in ((12, 16, 0.45), (16, 18, 0.45), (18, 19, 0.45), (19, 21, 0.3)):
        for context in np.flatnonzero(rng.random(N_CONTEXTS) < share):
            at = rng.integers(0, LENGTH, 2)
            tokens[context, at] = rng.integers(first, last, 2)
    tokens[tokens == WORDS.index(" tail")] = 0
    tokens[:2, 5] = WORDS.index(" tail")
    return tokens


def _write_contexts(path: Path, tokens: np.ndarray[Any, Any]) -> None:
    contexts = [[c, c, row.tolist(), [0], [LENGTH], [c], [0], c % 2 == 0] for c, row in enumerate(tokens)]
    documents = [[c, f"document {c}"] for c in range(N_CONTEXTS)]
    words = [list(pair) for pair in enumerate(WORDS)]
    _write(path, CONTEXT_TABLES, {"context": contexts, "document": documents, "token": words})


def _write_segment(path: Path, tokens: np.ndarray[Any, Any], rng: np.random.Generator) -> tuple[int, int]:
    features, examples, panel = [], [], []
    for feature, rule in RULES.items():
        fires = np.isin(tokens, [token for token, word in enumerate(WORDS) if rule(word)])
        acts = np.where(fires, rng.uniform(1, 10, tokens.shape), 0).astype(np.float32)
        n_fires, n_contexts = int(fires.sum()), int(fires.any(1).sum())
        figures = [n_fires, n_contexts, n_fires / tokens.size, float(acts.max()), 0.0, 0.0]
        features.append([feature, *figures, [0], [0], [1.0], [1], [-1.0]])
        active = np.flatnonzero(fires.any(1))
        strongest = active[np.argsort(-acts[active].max(1))]
        for kind, chosen in ((0, strongest[:24]), (1, rng.permutation(active)[:100])):
            examples += [[feature, kind, rank, *_example(int(c), acts[c])] for rank, c in enumerate(chosen)]
        panel += [[feature, int(c), int(p), float(acts[c, p])] for c, p in np.argwhere(fires) if c % 2 == 0]
    _write(path, FEATURE_TABLES, {"feature": features, "example": examples, "panel": panel})
    return len(examples), len(panel)


def _write(path: Path, tables: dict[str, Any], rows: dict[str, list[list[Any]]]) -> None:
    with duckdb.connect(str(path), config={"threads": 1}) as connection:
        connection.execute(create_tables(tables))
        for table, values in {**rows, "meta": [["schema_version", SEGMENT_SCHEMA]]}.items():
            columns = [f"c{number}" for number in range(len(values[0]))]
            connection.register(
                "given", pa.table(dict(zip(columns, map(list, zip(*values, strict=True)), strict=True)))
            )
            connection.execute(f"insert into {table} select * from given")
            connection.unregister("given")


def _example(context: int, acts: np.ndarray[Any, Any]) -> list[Any]:
    peak = int(acts.argmax())
    low, high = max(0, peak - RADIUS), min(LENGTH, peak + RADIUS + 1)
    shares = np.round(acts[low:high] / acts[peak] * 255).astype(int).tolist()
    return [context, peak, float(acts[peak]), low, shares]


@dataclass
class Bench:
    """The planted store, open, with requests made to measure."""

    store: Store
    evidence: dict[Half, Evidence]
    workshop: Workshop

    def label_request(self, *features: int, cached: bool = True, seed: int = 0, **options: str) -> LabelRequest:
        answers = AnswerCache(self.store) if cached else None
        return LabelRequest(self.evidence["labeling"], features, self.workshop, options, seed, answers)

    def score_request(
        self, labels: dict[int, str], decoy: str | None = None, cached: bool = True, seed: int = 0, **options: str
    ) -> ScoreRequest:
        """labels: by feature. decoy: the text of another feature's label; None for no other label."""
        others = [] if decoy is None else [LabelToScore(99, CAPITALS, decoy, None)]
        return ScoreRequest(
            self.evidence["scoring"],
            [LabelToScore(10 + feature, feature, text, None) for feature, text in sorted(labels.items())],
            lambda feature, n: others[:n],
            self.workshop,
            options,
            seed,
            AnswerCache(self.store) if cached else None,
        )


@contextmanager
def bench(path: Path) -> Iterator[Bench]:
    """The planted store at a path, made where there is none."""
    if not path.exists():
        build(path)
    with Store.open(path) as store:
        with store.reading() as session:
            segment = SegmentRef.newest(session, get_dictionary(session, NAME))
        reader = SegmentReader(store)
        halves: tuple[Half, Half] = ("labeling", "scoring")
        evidence = {half: Evidence(store, reader, segment, half) for half in halves}
        try:
            yield Bench(store, evidence, Workshop(store, reader, segment))
        finally:
            for one in evidence.values():
                one.close()
            reader.close()


def labels(made: Bench, server: LlmServer, *features: int, cached: bool = False, **options: str) -> dict[int, Proposal]:
    given: dict[str, Any] = {"endpoint": server.url, "model": "a-model", "retries": "1", **options}
    found = list(OpenAI().label(made.label_request(*features, cached=cached, **given)))
    assert len({proposal.feature for proposal in found}) == len(found)
    return {proposal.feature: proposal for proposal in found}


def shown_rule(seen: Seen) -> int:
    """The feature that a prompt is about: the one whose rule the marked tokens all keep."""
    marks = re.findall("<<(.*?)>>", seen.prompt)
    assert marks
    (feature,) = (feature for feature in GOOD if all(RULES[feature](mark) for mark in marks))
    return feature


def honest(seen: Seen) -> Sent:
    """Reads the marks, as a good model would."""
    return label(f"it fires on rule {shown_rule(seen)}")
