"""Held-out loss of the demo model, beside n-gram models of the very same training rows.

    python -m benchmarks.demo_model.evaluate MODEL [--figures FILE]

Every token of the held-out rows counts but separators. The n-grams are shown what stands before a row's first token;
the model is not.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from benchmarks.demo_model.ngrams import NGramModel, windows
from benchmarks.demo_model.train import BATCH_ROWS, pack, read_texts

ORDERS = {"bigram": 2, "5-gram": 5}
Rows = NDArray[np.int32]


@torch.inference_mode()
def model_loss(folder: Path, rows: Rows, separator: int) -> float:
    """Nats per token over all tokens of the rows but separators; the shipped fp16 weights, run in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total, n_tokens = 0.0, 0
    for start in range(0, len(rows), BATCH_ROWS):
        ids = torch.from_numpy(rows[start : start + BATCH_ROWS]).long()
        targets = ids[:, 1:].masked_fill(ids[:, 1:] == separator, -100)
        logits = model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        total, n_tokens = total + float(loss), n_tokens + int((targets != -100).sum())
    return total / n_tokens


def ngram_loss(order: int, vocabulary: int, train: Rows, held_out: Rows, separator: int) -> float:
    """Nats per token over all tokens of the held-out rows but separators."""
    model = NGramModel(train[:, 1:].ravel(), order, vocabulary, separator)
    wanted = windows(held_out[:, 1:].ravel(), order, separator)
    wanted = wanted[wanted[:, -1] != separator]
    return float(-np.log(model.probabilities(wanted)).mean())


def n_bytes(tokenizer: PreTrainedTokenizerFast, ids: NDArray[np.integer]) -> int:
    """Bytes of text that byte-level tokens stand for: each is written with one character a byte."""
    lengths = np.array([len(token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    return int(lengths[ids].sum())


def evaluate(folder: Path) -> dict[str, float]:
    """All figures, losses in nats."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    separator = tokenizer.bos_token_id
    train_texts, held_out_texts = read_texts()
    train, held_out = pack(tokenizer, train_texts), pack(tokenizer, held_out_texts)
    body = held_out[:, 1:]
    counted = body[body != separator]
    losses = {"model": model_loss(folder, held_out, separator)}
    for name, order in ORDERS.items():
        losses[name] = ngram_loss(order, len(tokenizer), train, held_out, separator)
    per_byte = len(counted) / n_bytes(tokenizer, counted)
    figures: dict[str, float] = {
        "train_documents": len(train_texts),
        "train_tokens": train.size,
        "held_out_documents": len(held_out_texts),
        "held_out_tokens": len(counted),
    }
    for name, loss in losses.items():
        figures |= {
            f"{name}_loss": loss,
            f"{name}_loss_per_byte": loss * per_byte,
            f"{name}_perplexity": math.exp(loss),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--figures", type=Path)
    args = parser.parse_args()
    figures = evaluate(args.model)
    print(json.dumps(figures, indent=1))
    if args.figures:
        args.figures.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
