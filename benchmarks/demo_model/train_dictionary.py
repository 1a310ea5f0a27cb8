"""Trains the dictionary that featuredb ships, as `featuredb demo --train` does, and measures it.

    python -m benchmarks.demo_model.train_dictionary MODEL OUT [--figures FILE]

MODEL: the model's folder, whose name goes into the dictionary. OUT: the dictionary's folder; an interrupted training
goes on there. The figures are of held-out documents (see train.py) that the training did not reach either, tokens that
stand for no text left out; only the share of dead features is of the run that `featuredb demo` makes.

Loss recovered is (L_ablated - L_dictionary) / (L_ablated - L_clean): next-token losses of the model with the hook's
activations replaced by zero or by their mean, replaced by the dictionary's reconstruction, and left alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.demo_model.train import is_held_out
from featuredb.capture.contexts import Context, Packing, pack
from featuredb.capture.loop import pad
from featuredb.capture.train import BUFFER_BYTES, train
from featuredb.corpora import open_corpus
from featuredb.corpus import CorpusOptions, Document
from featuredb.demo import training
from featuredb.demo.tour import N_TOKENS
from featuredb.dictionary import Dictionary, load_dictionary
from featuredb.model import Model, load_model
from featuredb.progress import Progress

BATCH = 16
Replace = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Probe:
    """A model, one of its hooks, the dictionary that reads it, and what they are measured on."""

    model: Model
    hook: str
    dictionary: Dictionary
    contexts: Sequence[Context]

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Token ids, which are there, and which count, each (n, T)."""
        for start in range(0, len(self.contexts), BATCH):
            some = self.contexts[start : start + BATCH]
            ids, mask = pad(some, self.model.pad_id)
            counted = np.zeros(ids.shape, dtype=bool)
            for line, context in zip(counted, some, strict=True):
                line[: len(context.ids)] = context.counted
            yield torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(counted)

    def activations(self) -> torch.Tensor:
        """(n, d) of the counted tokens."""
        return torch.cat(
            [self.model.run(ids, mask, [self.hook])[self.hook][counted] for ids, mask, counted in self.batches()]
        )

    @torch.inference_mode()
    def loss(self, replace: Replace | None = None) -> float:
        """Nats per counted token, the hook's activations on counted tokens put through `replace` first."""
        module: Any = self.model.module
        point = self.model.hook_map.points[self.hook]
        total, n_targets = 0.0, 0
        for ids, mask, counted in self.batches():

            def put(_module: Any, _args: Any, output: Any, counted: torch.Tensor = counted) -> Any:
                # Blocks give their stream alone or first in a tuple.
                stream = (output[0] if isinstance(output, tuple) else output).clone()
                stream[counted] = replace(stream[counted]) if replace else stream[counted]
                return (stream, *output[1:]) if isinstance(output, tuple) else stream

            handle = module.get_submodule(point.path).register_forward_hook(put)
            try:
                logits = module(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
            finally:
                handle.remove()
            wanted = counted[:, 1:]
            loss = torch.nn.functional.cross_entropy(logits[:, :-1][wanted], ids[:, 1:][wanted], reduction="sum")
            total, n_targets = total + float(loss), n_targets + int(wanted.sum())
        return total / n_targets


def measure(probe: Probe) -> dict[str, float]:
    """Variance explained, features that fire on a token, and loss recovered."""
    x = probe.activations()
    mean = x.mean(dim=0)
    error, n_fires = 0.0, 0
    for rows in torch.split(x, 4096):
        acts = probe.dictionary.encode(rows)
        error += float((probe.dictionary.decode(acts) - rows).double().pow(2).sum())
        n_fires += int((acts != 0).sum())
    clean = probe.loss()
    spliced = probe.loss(probe.dictionary.reconstruct)
    zero = probe.loss(torch.zeros_like)
    by_mean = probe.loss(lambda rows: mean.expand_as(rows))
    return {
        "tokens": len(x),
        "variance_explained": 1 - error / float((x - mean).double().pow(2).sum()),
        "l0": n_fires / len(x),
        "loss_clean": clean,
        "loss_dictionary": spliced,
        "loss_zero": zero,
        "loss_mean": by_mean,
        "recovered": (zero - spliced) / (zero - clean),
        "recovered_mean": (by_mean - spliced) / (by_mean - clean),
    }


def dead_share(model: Model, hook: str, dictionary: Dictionary, n_tokens: int) -> float:
    """Share of the features that never fire in the first tokens of python-docs."""
    contexts = pack(
        open_corpus("python-docs", CorpusOptions()), model.encode_text, _packing(model), model.special_ids, n_tokens
    )
    fired = torch.zeros(dictionary.n_features, dtype=torch.bool)
    for rows in torch.split(Probe(model, hook, dictionary, list(contexts)).activations(), 4096):
        fired |= (dictionary.encode(rows) != 0).any(dim=0)
    return 1 - float(fired.float().mean())


def unreached(model: Model, n_tokens: int) -> Iterator[Document]:
    """The held-out documents that a training on the first n_tokens of python-docs:tests never read."""
    for document in open_corpus("python-docs:tests", CorpusOptions()):
        if n_tokens > 0:
            n_tokens -= len(model.encode_text(document.text))
        elif is_held_out(document):
            yield document


def evaluate(model: Model, dictionary: Dictionary, n_trained: int) -> dict[str, float]:
    """All figures of a dictionary that was trained on the first n_trained tokens of python-docs:tests."""
    hook = model.resolve_hook(dictionary.hook)
    # A training reads up to two buffers beyond the tokens it trains on.
    n_read = n_trained + 2 * BUFFER_BYTES // (4 * dictionary.d_in)
    contexts = _packed(model, unreached(model, n_read))
    figures = measure(Probe(model, hook, dictionary, contexts))
    return figures | {"dead": dead_share(model, hook, dictionary, N_TOKENS), "dead_tokens": N_TOKENS}


def _packed(model: Model, documents: Iterable[Document]) -> list[Context]:
    return list(pack(documents, model.encode_text, _packing(model), model.special_ids))


def _packing(model: Model) -> Packing:
    length = model.max_length
    assert length is not None
    return Packing("concat", length, model.bos_id, model.bos_id)


def train_and_measure(model: Path, out: Path) -> dict[str, float | str]:
    """Trains the dictionary in `out`, or what is left of it; how it was trained, and its figures."""
    request = training(model, out)
    folder = train(request, _Lines())
    (dictionary,) = load_dictionary(f"saelens:{folder}")
    n_tokens = request.corpus.n_tokens or 0
    return {
        "hook": dictionary.hook,
        "n_features": request.n_features,
        "k": request.k,
        "trained_tokens": n_tokens,
        "lr": request.lr,
        "batch_size": request.batch_size,
        "seed": request.seed,
        **evaluate(load_model(str(model), device="cpu"), dictionary, n_tokens),
    }


class _Lines:
    """Progress as a line every quarter of a minute."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.said = float("-inf")

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self.said > 15 or progress.done == progress.total:
            self.said = now
            print(f"{now - self.began:5.0f} s  {progress.done:,} of {progress.total:,}  {progress.note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--figures", type=Path)
    args = parser.parse_args()
    figures = train_and_measure(args.model, args.out)
    print(json.dumps(figures, indent=1))
    if args.figures:
        args.figures.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
