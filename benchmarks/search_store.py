"""Stores to search: a million labelled features without examples, and many features with examples over kept text.

Both are real stores with real files; only what no search looks at is left out of them: vectors, moments, panels.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featuredb.store.files import describe_file
from featuredb.store.layout import CONTEXT_TABLES, FEATURE_TABLES, SEGMENT_SCHEMA, create_tables
from featuredb.store.runs import (
    CorpusRecord,
    DictionaryRecord,
    ModelRecord,
    RunRecord,
    SegmentRecord,
    commit_run,
)
from featuredb.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

RUN = "searched"
N_TOKENS = 10_000_000
LENGTH = 128
N_TOP, N_SAMPLE = 24, 66


def make_store(path: Path, n_dictionaries: int, n_features: int, n_contexts: int, *, examples: bool) -> None:
    """A store of one run: dictionaries d0, d1, ..., one in ten of whose features is dead or under-sampled."""
    with Store.create(path) as store:
        store.paths.run_folder(RUN).mkdir(parents=True)
        contexts = store.paths.contexts(RUN)
        _write(contexts, CONTEXT_TABLES, _context_tables(n_contexts))
        files = [describe_file(contexts, store.paths.relative(contexts), "contexts")]
        segments = []
        for number in range(n_dictionaries):
            name = f"d{number}"
            segment = store.paths.segment(RUN, name)
            tables = {"feature": _features(n_features, number)}
            if examples:
                tables["example"] = _examples(n_features, n_contexts)
            _write(segment, FEATURE_TABLES, tables)
            relative = store.paths.relative(segment)
            files.append(describe_file(segment, relative, "segment", dictionary=name))
            n_examples = n_features * (N_TOP + N_SAMPLE) if examples else 0
            segments.append(SegmentRecord(_dictionary(name, number, n_features), relative, n_features, n_examples, 0))
        model = ModelRecord("made up", "./model", "f00d", "gpt2", n_dictionaries, 64)
        corpus = CorpusRecord("python-docs", "python-docs", "python-docs.v1")
        run = RunRecord(RUN, model, corpus, N_TOKENS, n_contexts, n_contexts, LENGTH, "concat", 0)
        commit_run(store, run, segments, files)


def write_labels(path: Path, texts: Sequence[str], n_features: int) -> None:
    """A CSV of labels, one for each feature of the store's dictionaries in turn."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["feature", "text"])
        rows.writerows([f"d{place // n_features}/{place % n_features}", text] for place, text in enumerate(texts))


def _dictionary(name: str, number: int, n_features: int) -> DictionaryRecord:
    fingerprint = hashlib.sha256(name.encode()).hexdigest()
    hook = f"layers.{number}.resid_post"
    return DictionaryRecord(name, "sae", f"./{name}", "saelens.v1", hook, n_features, 64, 64, fingerprint, (hook,))


def _features(n: int, seed: int) -> pa.Table:
    import pyarrow as pa

    random = np.random.default_rng(seed)
    n_fires = np.exp(random.uniform(np.log(200), np.log(500_000), n)).astype(np.int64)
    n_fires[random.random(n) < 0.1] = random.integers(0, 200)
    nothing = pa.array([[]] * n)
    return pa.table(
        {
            "feature": np.arange(n),
            "n_fires": n_fires,
            "n_contexts": n_fires,
            "density": n_fires / N_TOKENS,
            "max": np.ones(n),
            "mean": np.ones(n),
            "m2": np.ones(n),
            "histogram": nothing,
            "promoted": nothing,
            "promoted_values": nothing,
            "suppressed": nothing,
            "suppressed_values": nothing,
        }
    )


def _examples(n: int, n_contexts: int) -> pa.Table:
    import pyarrow as pa

    random = np.random.default_rng(1)
    each = N_TOP + N_SAMPLE
    return pa.table(
        {
            "feature": np.repeat(np.arange(n), each),
            "kind": np.tile(np.repeat([0, 1], [N_TOP, N_SAMPLE]), n),
            "rank": np.tile(np.concatenate([np.arange(N_TOP), np.arange(N_SAMPLE)]), n),
            "context": random.integers(0, n_contexts, n * each),
            "position": random.integers(0, LENGTH, n * each),
            "activation": np.ones(n * each),
            "window_start": np.zeros(n * each, np.int64),
            "window": pa.array([[255]] * each * n),
        }
    )


def _context_tables(n: int) -> dict[str, pa.Table]:
    """n contexts cut anywhere out of Python's documentation, three in ten of two documents."""
    import pyarrow as pa

    ids, texts = _corpus()
    random = np.random.default_rng(2)
    starts = random.integers(0, len(ids) - LENGTH, n)
    tokens = ids[starts[:, None] + np.arange(LENGTH)]
    cuts = np.where(random.random(n) < 0.3, random.integers(8, LENGTH - 8, n), 0)
    begins = [[0, cut] if cut else [0] for cut in cuts.tolist()]
    offsets = pa.array(np.arange(0, n * LENGTH + 1, LENGTH, dtype=np.int32))
    context = pa.table(
        {
            "context": np.arange(n),
            "stream_index": np.arange(n),
            "tokens": pa.ListArray.from_arrays(offsets, pa.array(tokens.reshape(-1).astype(np.int32))),
            "piece_starts": pa.array(begins),
            "piece_ends": pa.array([[*begin[1:], LENGTH] for begin in begins]),
            "piece_documents": pa.array([[0] * len(begin) for begin in begins]),
            "piece_offsets": pa.array([[0] * len(begin) for begin in begins]),
            "on_panel": np.zeros(n, np.bool_),
        }
    )
    return {
        "context": context,
        "document": pa.table({"document": [0], "name": ["python-docs"]}),
        "token": pa.table({"token": np.arange(len(texts)), "text": texts}),
    }


def _corpus() -> tuple[np.ndarray, list[str]]:
    """Some of Python's documentation as the demo model reads it, and the text of every token."""
    from itertools import islice

    from transformers import AutoTokenizer

    from featuredb.corpora import open_corpus
    from featuredb.demo.tour import model_folder
    from featuredb.model.tokens import encode_text, token_texts

    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    documents = islice(open_corpus("python-docs"), 100)
    ids = np.concatenate([encode_text(tokenizer, document.text) for document in documents])
    return ids, token_texts(tokenizer, 1)


def _write(path: Path, tables: dict[str, Any], rows: dict[str, pa.Table]) -> None:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        connection.execute(create_tables(tables))
        for name, table in rows.items():
            connection.register("incoming", table)
            connection.execute(f'insert into "{name}" select * from incoming')
            connection.unregister("incoming")
        connection.execute("insert into meta values ('schema_version', ?)", [SEGMENT_SCHEMA])
