"""A whole small store, made through the same doors a capture uses: real segments, vectors, indices and catalog rows."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from functools import cache
from pathlib import Path

import duckdb
import numpy as np
from safetensors.numpy import save_file

from featuredb.store.files import FileRecord, describe_file, rename_into_place
from featuredb.store.layout import CONTEXT_TABLES, FEATURE_TABLES, SEGMENT_SCHEMA, Layout, create_tables
from featuredb.store.runs import (
    CorpusRecord,
    DictionaryRecord,
    ModelRecord,
    RunRecord,
    SegmentRecord,
    commit_run,
)
from featuredb.store.store import Store
from featuredb.store.vectors import Rows, write_index

D_MODEL = 6
N_FEATURES = {"alpha": 8, "beta": 5}
N_KEPT = 4
LENGTH = 6
N_TOKENS = 1_000
RUN = "run-one"
MODEL = ModelRecord("tiny", "./tiny", "f00d", "gpt2", 2, D_MODEL)
WORDS = (" the", " Cat", " sat", "<|end|>")


def build(path: Path) -> Store:
    """A store of one run: dictionaries alpha (8 features) and beta (5) at two hooks of one model.

    Feature i of a dictionary fires on i * 10 of 1,000 tokens, so 0 is dead, and has min(i, 4) top examples:
    context c at position 1 + c, of activation i - c / 10. On the panel, context 0, feature i fires on positions below i
    and below 6.
    """
    shutil.copytree(_template(), path)
    return Store.open(path)


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="featuredb-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with Store.create(folder / "small.fdb") as store:
        add_run(store, RUN)
    return folder / "small.fdb"


def add_run(store: Store, key: str, names: tuple[str, ...] = ("alpha", "beta"), seed: int = 0) -> bool:
    """Writes and commits one more run of those dictionaries, as a capture would."""
    unfinished = Layout(store.paths.work_folder(key) / "done")
    unfinished.run_folder(key).mkdir(parents=True)
    write_contexts(unfinished.contexts(key))
    files = [_describe(unfinished, unfinished.contexts(key), "contexts")]
    segments = []
    for name in names:
        hook = f"layers.{list(N_FEATURES).index(name) if name in N_FEATURES else 0}.resid_post"
        segments.append(_write_dictionary(unfinished, key, name, hook, files, seed))
    rename_into_place(unfinished.root, store.path)
    run = RunRecord(
        key=key,
        model=MODEL,
        corpus=CorpusRecord("words", f"text:{key}.txt", "text.v1"),
        n_tokens=N_TOKENS,
        n_contexts=200,
        n_kept=N_KEPT,
        context_length=LENGTH,
        packing="concat",
        seed=seed,
        settings={"examples": 4},
        versions={"featuredb": "0"},
    )
    committed = commit_run(store, run, segments, files)
    unfinished.root.parent.rmdir()
    return committed


def n_features(name: str) -> int:
    return N_FEATURES.get(name, 5)


def decoder(name: str) -> np.ndarray:
    """(F, 1, D_MODEL) float32, the same at every call; the row of the dead feature is zero."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    rows = np.random.default_rng(seed).standard_normal((n_features(name), 1, D_MODEL)).astype(np.float32)
    rows[0] = 0
    return rows


def write_contexts(path: Path) -> None:
    """contexts.duckdb: four contexts of the words over and over, opened by a special token, of two documents."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(create_tables(CONTEXT_TABLES))
        tokens = [3, 0, 1, 2, 0, 1]
        for context in range(N_KEPT):
            row = [context, 10 * context, tokens, [1, 4], [4, 6], [0, 1], [3 * context, 2 * context], context == 0]
            connection.execute("insert into context values (?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("insert into document values (0, 'one.txt'), (1, 'two.txt')")
        connection.executemany("insert into token values (?, ?)", [list(pair) for pair in enumerate(WORDS)])
        connection.execute("insert into meta values ('schema_version', ?)", [SEGMENT_SCHEMA])


def write_segment(path: Path, name: str) -> tuple[int, int]:
    """<dictionary>.duckdb; returns how many examples and panel rows it has."""
    features, examples, panel = [], [], []
    for i in range(n_features(name)):
        histogram = [i * 10, 0]
        features.append([i, i * 10, i, i * 10 / N_TOKENS, float(i), i / 2, i / 4, histogram, [0], [1.0], [1], [-1.0]])
        for c in range(min(i, N_KEPT)):
            examples.append([i, 0, c, c, 1 + c, i - c / 10, c, [0, 255, 0]])
        panel += [[i, 0, position, i / 10] for position in range(min(i, LENGTH))]
    with duckdb.connect(str(path)) as connection:
        connection.execute(create_tables(FEATURE_TABLES))
        connection.executemany(f"insert into feature values ({', '.join('?' * 12)})", features)
        connection.executemany("insert into example values (?, ?, ?, ?, ?, ?, ?, ?)", examples)
        connection.executemany("insert into panel values (?, ?, ?, ?)", panel)
        connection.execute("insert into meta values ('schema_version', ?)", [SEGMENT_SCHEMA])
    return len(examples), len(panel)


def _write_dictionary(
    layout: Layout, key: str, name: str, hook: str, files: list[FileRecord], seed: int
) -> SegmentRecord:
    moments = layout.moments(key, hook)
    if not moments.exists():
        identity = np.eye(D_MODEL)
        save_file({"n": np.array([N_TOKENS]), "mean": np.zeros(D_MODEL), "covariance": identity}, moments)
        files.append(_describe(layout, moments, "moments"))
    segment = layout.segment(key, name)
    n_examples, n_panel = write_segment(segment, name)
    files.append(_describe(layout, segment, "segment", name))
    response = np.random.default_rng(seed).standard_normal((n_features(name), D_MODEL)).astype(np.float32)
    save_file({"response": response}, layout.response(key, name))
    files.append(_describe(layout, layout.response(key, name), "response", name))
    layout.dictionary_folder(name).mkdir(parents=True)
    save_file({"w_dec": decoder(name)}, layout.weights(name))
    write_index(Rows(layout.weights(name), "w_dec"), layout.decoder_index(name))
    files.append(_describe(layout, layout.weights(name), "weights", name))
    files.append(_describe(layout, layout.decoder_index(name), "decoder-index", name))
    record = DictionaryRecord(
        name=name,
        kind="sae",
        source=f"./{name}",
        plugin="saelens.v1",
        hook=hook,
        n_features=n_features(name),
        d_in=D_MODEL,
        d_out=D_MODEL,
        fingerprint=hashlib.sha256(name.encode()).hexdigest(),
        hooks_out=(hook,),
    )
    path, moments_path = layout.relative(segment), layout.relative(moments)
    return SegmentRecord(record, path, n_features(name), n_examples, n_panel, moments_path)


def _describe(layout: Layout, path: Path, role: str, dictionary: str | None = None) -> FileRecord:
    return describe_file(path, layout.relative(path), role, dictionary=dictionary)
