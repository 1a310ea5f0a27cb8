"""Trains the demo model that featuredb ships: a small cased causal transformer on the running Python's own text.

    python benchmarks/demo_model/train.py OUT [--tokens 20000000] [--seed 0]

1. Read `python-docs:tests`; documents whose name hashes below 2% are held out, whole.
2. Train a byte-level BPE of 4,096 on the rest.
3. Pack documents into rows of 256 tokens, each row opened and each document separated by <|endoftext|>.
4. Minimise next-token loss with AdamW: linear warm-up, then a cosine down to 5% of the peak rate.
5. Save fp16 safetensors and the tokenizer to OUT. OUT/train.pt lets the same command go on after an interruption.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from featuredb.corpus import CorpusOptions, Document
from featuredb_plugins.python_docs import PythonDocs

CONTEXT = 256
VOCABULARY = 4096
SEPARATOR = "<|endoftext|>"
BATCH_ROWS = 16
PEAK_RATE = 0.004
HELD_OUT_SHARE = 0.02


def read_texts() -> tuple[list[str], list[str]]:
    """Training and held-out documents; which is which depends on the document's name alone."""
    train: list[str] = []
    held_out: list[str] = []
    for document in sorted(PythonDocs().documents("tests", CorpusOptions()), key=_place):
        (held_out if is_held_out(document) else train).append(document.text)
    return train, held_out


def is_held_out(document: Document) -> bool:
    """Whether the model never sees a document."""
    share = int.from_bytes(hashlib.blake2b(document.name.encode(), digest_size=8).digest(), "big") / 2**64
    return share < HELD_OUT_SHARE


def _place(document: Document) -> tuple[bool, list[str]]:
    """Documentation topics first, then sources, each by folder and name."""
    return not document.name.startswith("topics/"), document.name.split("/")


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE that loses nothing: decode(encode(text)) == text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SEPARATOR,
        eos_token=SEPARATOR,
        pad_token=SEPARATOR,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def pack(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """(n_rows, CONTEXT) token ids; the tail that fills no row is dropped."""
    separator = tokenizer.bos_token_id
    stream: list[int] = []
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        stream.extend(ids)
        stream.append(separator)
    body = CONTEXT - 1
    n_rows = len(stream) // body
    rows = np.asarray(stream[: n_rows * body], dtype=np.int32).reshape(n_rows, body)
    return np.concatenate([np.full((n_rows, 1), separator, dtype=np.int32), rows], axis=1)


def build_model(seed: int) -> LlamaForCausalLM:
    """4 layers of width 256 with rotary positions and tied embeddings: 4.2 M parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=8,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=None,
        )
    )


def build_optimizer(model: LlamaForCausalLM) -> torch.optim.Optimizer:
    """AdamW; weight decay pulls on matrices, not on the norms' gains."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    gains = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)


def learning_rate_share(step: int, n_steps: int) -> float:
    """Share of the peak learning rate at a step: 100 steps of warm-up, then a cosine down to 5%."""
    if step < 100:
        return (step + 1) / 100
    progress = (step - 100) / max(1, n_steps - 100)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


def train(model: LlamaForCausalLM, rows: np.ndarray, n_steps: int, seed: int, checkpoint: Path) -> list[list[float]]:
    """Runs the steps that are still to do; returns [step, loss] pairs of the whole run."""
    optimizer = build_optimizer(model)
    step, log = 0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, log = state["step"], state["log"]
    per_epoch = len(rows) // BATCH_ROWS
    began, first = time.time(), step
    while step < n_steps:
        epoch, batch = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        ids = torch.from_numpy(rows[order[batch * BATCH_ROWS : (batch + 1) * BATCH_ROWS]]).long()
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * learning_rate_share(step, n_steps)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 20 == 0:
            log.append([step, loss.item()])
            rate = (step - first) * BATCH_ROWS * CONTEXT / (time.time() - began)
            print(f"step {step}/{n_steps}  loss {loss.item():.3f}  {rate:,.0f} tokens/s", flush=True)
        if step % 200 == 0 or step == n_steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "log": log}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
    return log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, default=20_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train_texts, _ = read_texts()
    tokenizer = train_tokenizer(train_texts)
    tokenizer.save_pretrained(args.out)
    rows = pack(tokenizer, train_texts)
    n_steps = args.tokens // (BATCH_ROWS * CONTEXT)
    print(f"{len(train_texts)} documents, {rows.size:,} tokens, {n_steps} steps", flush=True)
    model = build_model(args.seed)
    log = train(model, rows, n_steps, args.seed, args.out / "train.pt")
    model.half().save_pretrained(args.out)
    (args.out / "loss.json").write_text(json.dumps(log))


if __name__ == "__main__":
    main()
