"""Runs eai-delphi over prepared tokens and prints its seconds as JSON. Run by the environment that has it.

    python benchmarks/delphi_worker.py MODEL DICTIONARY TOKENS.npy OUT HOOKPOINT K BATCH_SIZE SETTING[,SETTING]

Steps, as its own command line takes them on the way to its explainer:
1. LatentCache.run over the model, given a callable that encodes as its own `sae_dense_latents` does, and save_splits.
2. LatentDataset over what was saved, every feature's record built, once for each SETTING: "all" (features that fire in
   a single window too, all else its defaults), "examples" (that, without non-activating examples).
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

N_SPLITS = 5
"""Its own default."""


def main() -> None:
    from delphi.latents import LatentCache
    from transformers import AutoModel, AutoTokenizer

    model_folder, dictionary, tokens_path, out, hookpoint, k, batch_size, settings = sys.argv[1:]
    logging.getLogger("delphi").setLevel(logging.ERROR)
    model = AutoModel.from_pretrained(model_folder)
    tokens = torch.from_numpy(np.load(tokens_path))
    encode = dense_encoder(Path(dictionary), int(k))
    folder = Path(out)

    start = time.perf_counter()
    cache = LatentCache(model, {hookpoint: encode}, batch_size=int(batch_size))
    cache.run(tokens.numel(), tokens)
    cache.save_splits(n_splits=N_SPLITS, save_dir=folder)
    answer: dict[str, Any] = {"cache": time.perf_counter() - start}

    (folder / hookpoint / "config.json").write_text(json.dumps({"model_name": model_folder}), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    del cache, model
    for name in settings.split(","):
        start = time.perf_counter()
        answer[f"{name}_records"] = build_examples(folder, hookpoint, tokenizer, name)
        answer[name] = time.perf_counter() - start
    print(json.dumps(answer))


def build_examples(folder: Path, hookpoint: str, tokenizer: Any, name: str) -> int:
    """How many features' records were built."""
    from delphi.config import ConstructorConfig, SamplerConfig
    from delphi.latents import LatentDataset

    # By default a feature with fewer than 200 windows is left without examples; here every feature gets its own.
    constructor = ConstructorConfig(min_examples=1)
    if name == "examples":
        constructor.n_non_activating = 0
    dataset = LatentDataset(folder, SamplerConfig(), constructor, tokenizer=tokenizer, modules=[hookpoint])
    return sum(1 for _ in dataset)


def dense_encoder(folder: Path, k: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """(batch, tokens, d) to (batch, tokens, features), the k largest pre-activations scattered into zeros."""
    tensors = load_file(folder / "sae_weights.safetensors")
    encoder, bias = tensors["W_enc"], tensors["b_enc"]

    def encode(x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        values, features = torch.topk(torch.relu(torch.addmm(bias, flat, encoder)), k, dim=-1, sorted=False)
        dense = torch.zeros(len(flat), len(bias))
        dense.scatter_(-1, features, values)
        return dense.reshape(*x.shape[:-1], -1)

    return encode


if __name__ == "__main__":
    main()
