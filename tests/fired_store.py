"""A store whose texts can be run again, and what its features do on a text, worked out by plain transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import featuredb
from featuredb.dictionary import Dictionary
from tests.small_ingest import (
    CONTEXT_LENGTH,
    N_FEATURES,
    random_dictionary,
    request,
    save_corpus,
    save_dictionary,
    save_model,
    tensors,
    texts,
)

BODY = CONTEXT_LENGTH - 1
"""Tokens of a text in a context: one place is the opener's."""
LAYERS = {"low": 1, "high": 2, "twin": 2}
ENOUGH = 200


def make(folder: Path) -> Path:
    """A store of three dictionaries of one model; `twin` is `high` under another name, and has two equal features."""
    model, corpus = save_model(folder / "model"), save_corpus(folder / "corpus.jsonl", texts(60))
    low = random_dictionary(folder / "low", "topk", LAYERS["low"], seed=1)
    weights = tensors("jumprelu", 2)
    for name in ("W_enc", "W_dec"):
        matrix = weights[name] if name == "W_dec" else weights[name].T
        matrix[7] = matrix[5]
    for name in ("b_enc", "threshold"):
        weights[name][7] = weights[name][5]
    high = save_dictionary(folder / "high", "jumprelu", LAYERS["high"], weights)
    path = folder / "fired.fdb"
    with featuredb.open(path, create=True) as db:
        db.ingest(request(model, [low, high], corpus))
        db.ingest(request(model, [high], corpus, name="twin"))
    return path


class Oracle:
    """Brute force: dense matrices and Python loops."""

    def __init__(self, store: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.store = store
        self._dense: dict[tuple[str, str], NDArray[np.float32]] = {}
        folder = store.parent / "model"
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.dictionaries = {
            name: Dictionary.read(store / "dictionaries" / name / "weights.safetensors") for name in LAYERS
        }

    @cached_property
    def figures(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """By dictionary, each feature's largest activation to be held against, and its surprise."""
        found = {}
        with featuredb.open(self.store) as db:
            n_tokens = {run.n_tokens for run in db.ls("runs")}.pop()
            for name in LAYERS:
                rows = db.sql(f"select n_fires, max from feature where dictionary = '{name}' order by feature")
                fires, largest = rows["n_fires"].to_numpy(), rows["max"].to_numpy().astype(np.float64)
                typical = np.median(largest[fires >= ENOUGH])
                largest = np.where(fires >= ENOUGH, largest, np.maximum(largest, typical))
                found[name] = (largest, -np.log2((fires + 1) / (n_tokens + 1)))
        return found

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def dense(self, name: str, text: str) -> NDArray[np.float32]:
        """(n_tokens, F): the text in windows of BODY tokens, each after the opener; special tokens count as 0."""
        if (name, text) not in self._dense:
            self._dense[name, text] = self._run(name, text)
        return self._dense[name, text]

    @torch.inference_mode()
    def _run(self, name: str, text: str) -> NDArray[np.float32]:
        ids, parts, start = self.ids(text), [], 0
        while start < len(ids):
            opener = [] if ids[start] == 0 else [0]
            window = ids[start : start + CONTEXT_LENGTH - len(opener)]
            output = self.model(torch.tensor([[*opener, *window]]), output_hidden_states=True)
            parts.append(output.hidden_states[LAYERS[name] + 1][0, len(opener) :])
            start += len(window)
        dense: NDArray[np.float32] = self.dictionaries[name].encode(torch.cat(parts)).numpy()
        dense[np.array(ids) == 0] = 0
        return dense

    def value(self, name: str, text: str, by: str) -> NDArray[np.float64]:
        """(F,) by a measure."""
        dense, ordinary = self.dense(name, text).astype(np.float64), np.array(self.ids(text)) != 0
        of_measure: dict[str, NDArray[np.float64]] = {
            "max": dense.max(axis=0),
            "mean": dense[ordinary].mean(axis=0),
            "last": dense[np.flatnonzero(ordinary)[-1]],
        }
        return of_measure[by]

    def scores(self, name: str, texts: Sequence[str], by: str) -> NDArray[np.float64]:
        """(n_texts, F)"""
        largest, surprise = self.figures[name]
        return np.array(
            [
                self.value(name, text, by) / np.maximum(largest, self.dense(name, text).max(axis=0)) * surprise
                for text in texts
            ]
        )

    def contrast(self, name: str, texts: Sequence[str], others: Sequence[str], by: str) -> dict[int, float]:
        """The features that score more on the texts, and by how much."""
        largest, surprise = self.figures[name]
        peak = np.max([self.dense(name, text).max(axis=0) for text in (*texts, *others)], axis=0)
        here, there = (np.mean([self.value(name, text, by) for text in side], axis=0) for side in (texts, others))
        score = (here - there) / np.maximum(largest, peak) * surprise
        return {i: score[i] for i in range(N_FEATURES) if here[i] - there[i] > 0.01 * max(here[i], there[i])}
