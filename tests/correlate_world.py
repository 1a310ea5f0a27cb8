"""One real store for all tests of correlate and similar, and what its hooks and features did, worked out by hand.

Two models read one corpus: `one` at three hooks with four dictionaries, `two` in shorter contexts with one.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import featuredb
from featuredb.capture.request import CaptureSettings
from featuredb.database import FeatureDB
from tests.oracle import Float32, Oracle, Row, hidden_states, rows_by_hand
from tests.small_ingest import CONTEXT_LENGTH, request, save_corpus, save_dictionary, save_model, tensors, texts

SHORT = 24
"""Context length of the second model's run."""
HOOK, WRITTEN = "layers.1.resid_post", "layers.2.resid_post"
DOCUMENTS = [*texts(90), "one <|endoftext|> two " * 9, "x"]
READS = {"top": HOOK, "jump": HOOK, "before": "layers.2.resid_pre", "over": HOOK, "other": HOOK}
"""By dictionary. `before` reads the tensor of `top` by another name; `over` is a transcoder that writes WRITTEN."""
UPPER = ("THE END. RIVER STONE", "LAMP DOOR WINDOW SEVEN", "UNDER OVER BETWEEN", "A SILL OF THE CAT", "STONE AND LAMP")
LOWER = tuple(text.lower() for text in UPPER)
PROMISED = [
    *("feature", "dictionary", "index", "label", "flags"),
    *("cosine_decoder", "cosine_encoder", "correlation", "auroc", "auroc_low", "auroc_high"),
]
"""The first fields of a row of correlate and of similar, whatever is added."""


@dataclass(frozen=True)
class World:
    """The store's folder, and by dictionary what its features do on every counted token."""

    path: Path
    oracles: dict[str, Oracle]
    folder: Path

    def copy(self, path: Path) -> FeatureDB:
        """A copy that a test may change."""
        shutil.copytree(self.path, path)
        return featuredb.open(path)

    def weights(self, name: str) -> dict[str, NDArray[np.float64]]:
        """w_enc (d, F) and w_dec (F, d) of a dictionary as its publisher's file has them."""
        from safetensors.numpy import load_file

        found = load_file(self.folder / name / "sae_weights.safetensors")
        return {"w_enc": found["W_enc"].astype(np.float64), "w_dec": found["W_dec"].astype(np.float64)}

    def ranked(self, name: str) -> NDArray[np.bool_]:
        """(F,) the features that fired often enough."""
        return np.asarray((self.oracles[name].acts != 0).sum(axis=0) >= 200)

    def pearson(self, name: str, read_outs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(F,) of each feature's activation with a read-out (d,), over every counted token; (n, F) with several.

        NaN where a feature never fires.
        """
        oracle = self.oracles[name]
        read = oracle.x.astype(np.float64) @ np.atleast_2d(read_outs).T
        acts = oracle.acts.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            read, acts = ((each - each.mean(axis=0)) / each.std(axis=0) for each in (read, acts))
            found = read.T @ acts / len(acts)
        return np.asarray(found[0] if np.ndim(read_outs) == 1 else found)


def world() -> World:
    """The same one for every test of a process; it is not to be changed."""
    return _made()


@cache
def _made() -> World:
    folder = Path(tempfile.mkdtemp(prefix="featuredb-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    models = {name: save_model(folder / name, seed=seed) for seed, name in enumerate(("one", "two"))}
    for name, hook in READS.items():
        _save(folder / name, name, hook)
    corpus = save_corpus(folder / "corpus.jsonl", DOCUMENTS)
    settings = CaptureSettings(n_samples=4, n_panel=60, seed=3)
    short = CaptureSettings(n_samples=4, n_panel=120, seed=4)
    with featuredb.open(folder / "store.fdb", create=True) as db:
        watched = [folder / name for name in ("top", "jump", "before", "over")]
        db.ingest(request(models["one"], watched, corpus, settings=settings))
        db.ingest(request(models["two"], [folder / "other"], corpus, settings=short))
    oracles: dict[str, Oracle] = {}
    for model, length, names in (
        ("one", CONTEXT_LENGTH, ("top", "jump", "before", "over")),
        ("two", SHORT, ("other",)),
    ):
        rows, states = _by_hand(models[model], length)
        oracles |= {name: Oracle.make(rows, states, folder / name) for name in names}
    return World(folder / "store.fdb", oracles, folder)


def _save(folder: Path, name: str, hook: str) -> None:
    architecture = {"top": "topk", "jump": "jumprelu", "over": "transcoder", "other": "topk"}.get(name, "standard")
    more: dict[str, Any] = {}
    metadata = {
        "sae_lens_version": "6.54.12",
        "hook_name": "blocks.2.hook_resid_pre" if hook.endswith("resid_pre") else "blocks.1.hook_resid_post",
        "context_size": SHORT if name == "other" else CONTEXT_LENGTH,
        "prepend_bos": True,
    }
    weights = tensors("standard" if name == "over" else architecture, seed=len(name) + ord(name[0]))
    if name == "over":
        metadata["hook_name_out"] = "blocks.2.hook_resid_post"
        more = {"d_out": weights["W_dec"].shape[1], "apply_b_dec_to_input": False}
    if name == "top":
        weights["W_dec"][3] = 0.0
        weights["W_dec"][4] = 2.5 * weights["W_dec"][5] + 0.01 * weights["W_dec"][6]
    save_dictionary(folder, architecture, 1, weights, metadata=metadata, **more)


def _by_hand(path: Path, length: int) -> tuple[list[Row], list[Float32]]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in DOCUMENTS]
    rows = rows_by_hand(ids, "concat", length, None)
    with torch.random.fork_rng():
        return rows, hidden_states(model, rows, [1])[1]
