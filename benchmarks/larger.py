"""A dictionary of a hundred thousand features on the demo's model, and a store of it, to tell what the audit costs.

Its features are mixtures of the demo's, each firing as often as was drawn for it, so that as many fire on a token as
those of public dictionaries of this size. Nothing is trained, and what a feature means is of no account.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Bench

N_FEATURES = 102_400
DENSITY = 4e-4, 4e-3
"""Between which densities are drawn, evenly in their logarithms: 160 features on a token, on average."""
MIXED, NOISE = 0.5, 0.3
"""What another of the demo's features adds to one, and chance; shares of its length."""
N_TOKENS, N_TOLD = 500_000, 32_768
"""Tokens ingested, and those by which thresholds are set."""
CONTEXT, AT_ONCE = 256, 1_024


def larger_store(bench: Bench) -> tuple[Path, int]:
    """The store and its number of features; as it was, where it is there already."""
    import featuredb
    from featuredb.capture.request import CaptureSettings, CorpusRequest, IngestRequest, ModelRequest
    from featuredb.demo.tour import model_folder

    n_features = bench.choose(N_FEATURES, 1_024)
    path, folder = bench.folder / "larger.fdb", bench.folder / "larger"
    if not folder.exists():
        make_dictionary(folder, n_features)
    request = IngestRequest(
        ModelRequest(str(model_folder())),
        (f"saelens:{folder}",),
        CorpusRequest("python-docs", bench.choose(N_TOKENS, 100_000)),
        CaptureSettings(n_panel=512),
        name="larger",
    )
    with featuredb.open(path, create=True) as db:
        db.ingest(request)
    return path, n_features


def make_dictionary(folder: Path, n_features: int) -> None:
    """Writes the dictionary as sae-lens has it."""
    from safetensors.numpy import load_file, save_file

    from featuredb.demo.tour import dictionary_folder

    shipped = dictionary_folder()
    weights = load_file(shipped / "sae_weights.safetensors")
    settings = json.loads((shipped / "cfg.json").read_text(encoding="utf-8"))
    random = np.random.default_rng(0)
    alive = np.flatnonzero(np.linalg.norm(weights["W_enc"], axis=0) > 0)
    first, second = random.choice(alive, (2, n_features))
    made = {"b_dec": weights["b_dec"], "b_enc": weights["b_enc"][first]}
    for name, rows in (("W_enc", weights["W_enc"].T), ("W_dec", weights["W_dec"])):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        chance = random.normal(size=(n_features, rows.shape[1])).astype(np.float32) / np.sqrt(rows.shape[1])
        mixed = rows[first] + MIXED * rows[second] + NOISE * chance
        made[name] = np.ascontiguousarray(mixed.T if name == "W_enc" else mixed, np.float32)
    rarest, commonest = np.log(DENSITY)
    density = np.exp(random.uniform(rarest, commonest, n_features))
    made["threshold"] = _thresholds(_states() - made["b_dec"], made["W_enc"], made["b_enc"], density)
    folder.mkdir()
    save_file(made, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(settings | {"d_sae": n_features}), encoding="utf-8")


def _states() -> NDArray[np.float32]:
    """(N_TOLD, d) what the demo's dictionary reads, on Python's tests, which are not ingested."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from featuredb.corpora import open_corpus
    from featuredb.demo.tour import model_folder

    model = AutoModelForCausalLM.from_pretrained(model_folder()).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    found = list[NDArray[np.float32]]()
    for document in open_corpus("python-docs:tests"):
        tokens = tokenizer(document.text[: 4 * CONTEXT], return_tensors="pt", truncation=True, max_length=CONTEXT)
        with torch.inference_mode():
            # The first state is what goes into the first layer, so that this is what comes out of layers.2.
            found.append(model(**tokens, output_hidden_states=True).hidden_states[3][0, 1:].numpy())
        if sum(map(len, found)) >= N_TOLD:
            break
    return np.concatenate(found)[:N_TOLD]


def _thresholds(
    states: NDArray[np.float32], encoder: NDArray[np.float32], bias: NDArray[np.float32], density: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(F,) above which each feature fires as often as it is to; never below zero, where it would be no JumpReLU."""
    import torch

    found = np.zeros(len(bias), np.float32)
    counts = np.maximum(1, np.round(density * len(states))).astype(np.int64)
    for start in range(0, len(bias), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        pre = torch.from_numpy(states @ encoder[:, part] + bias[part])
        top = torch.topk(pre, int(counts[part].max()) + 1, dim=0).values.numpy()
        found[part] = np.maximum(np.take_along_axis(top, counts[None, part], axis=0)[0], 1e-3)
    return found
