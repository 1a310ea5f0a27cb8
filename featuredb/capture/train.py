"""Training a dictionary: activation rows from our own capture, in shuffled buffers, to a trainer plugin.

A buffer is filled from whole contexts and shuffled by (seed, number of the buffer), so that a training that goes on
after an interruption passes over finished buffers without running the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from featuredb.capture.contexts import Context, Packing, pack
from featuredb.capture.loop import pad
from featuredb.capture.request import TrainRequest
from featuredb.corpora import open_corpus
from featuredb.corpus import CorpusOptions
from featuredb.errors import BadInput, Interrupted
from featuredb.model import Model, load_model
from featuredb.plugins import Registry, guarded
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.training import TrainingPlan, TrainingProgress, resume_step

BUFFER_BYTES = 1 << 28
MOST_CONTEXT = 1024
FORWARD_TOKENS = 4096


def train(request: TrainRequest, report: ProgressReport = silent, *, model: Model | None = None) -> Path:
    """The folder of the finished dictionary, ready for `ingest model`. The same request goes on where one stopped."""
    if model is None:
        asked = request.model
        model = load_model(
            asked.source, device=asked.device, dtype=asked.dtype, trust_remote_code=asked.trust_remote_code
        )
    hook = model.resolve_hook(request.hook)
    length = request.corpus.context_length or min(model.max_length or MOST_CONTEXT, MOST_CONTEXT)
    packing = Packing(request.corpus.packing, length, model.bos_id, model.bos_id)
    n_tokens = request.corpus.n_tokens
    assert n_tokens is not None
    plan = TrainingPlan(
        d_in=model.hook_width(hook),
        n_features=request.n_features,
        n_tokens=n_tokens,
        architecture=request.architecture,
        k=request.k,
        l1=request.l1,
        lr=request.lr,
        batch_size=request.batch_size,
        seed=request.seed,
        device=model.device.type,
        model=model.name,
        hook=hook,
        context_length=length,
        prepend_bos=model.bos_id is not None,
        corpus=request.corpus.spec,
    )

    def tell(done: TrainingProgress) -> None:
        note = f"loss {done.loss:.4g}, explained {done.explained_variance:.3f}, dead {done.dead_fraction:.1%}"
        report(Progress("train", done.step * plan.batch_size, plan.n_steps * plan.batch_size, "tokens", note))

    rows = Buffers(model, hook, _endless(request, model, packing), plan).batches(skip=resume_step(request.out))
    trainer = Registry.installed().trainer("train")
    try:
        return guarded(trainer.name, lambda: trainer.train(plan, rows, request.out, tell))
    except KeyboardInterrupt as error:
        raise Interrupted("stopped by Ctrl-C", hint="the same command goes on from the last checkpoint") from error


class Buffers:
    """Endless batches of activation rows (batch_size, d_in) float32, in an order the plan's seed decides."""

    def __init__(self, model: Model, hook: str, contexts: Iterator[Context], plan: TrainingPlan) -> None:
        self.model, self.hook, self.contexts, self.plan = model, hook, contexts, plan
        # No more rows than the training takes: a short one need not run the model for a whole buffer.
        self.n_rows = max(plan.batch_size, min(BUFFER_BYTES // (4 * plan.d_in), plan.n_tokens))

    def batches(self, skip: int = 0) -> Iterator[torch.Tensor]:
        """skip: batches to pass over; the model is not run for buffers that lie wholly among them."""
        number = 0
        while True:
            contexts = self._next_contexts()
            n_rows = sum(int(context.counted.sum()) for context in contexts)
            n_batches = n_rows // self.plan.batch_size  # what fills no batch is left out
            if skip >= n_batches:
                skip -= n_batches
            else:
                rows = self._activations(contexts)
                order = torch.from_numpy(np.random.default_rng([self.plan.seed, number]).permutation(n_rows))
                for batch in range(skip, n_batches):
                    chosen = order[batch * self.plan.batch_size : (batch + 1) * self.plan.batch_size]
                    yield rows[chosen.to(rows.device)]
                skip = 0
            number += 1

    def _next_contexts(self) -> list[Context]:
        taken: list[Context] = []
        n_rows = 0
        while n_rows < self.n_rows:
            context = next(self.contexts)
            taken.append(context)
            n_rows += int(context.counted.sum())
        return taken

    def _activations(self, contexts: list[Context]) -> torch.Tensor:
        parts = []
        step = max(1, FORWARD_TOKENS // max(len(context.ids) for context in contexts))
        for start in range(0, len(contexts), step):
            some = contexts[start : start + step]
            ids, mask = pad(some, self.model.pad_id)
            counted = np.zeros(ids.shape, dtype=bool)
            for line, context in zip(counted, some, strict=True):
                line[: len(context.counted)] = context.counted
            output = self.model.run(torch.from_numpy(ids), torch.from_numpy(mask), [self.hook])[self.hook]
            parts.append(output[torch.from_numpy(counted).to(output.device)].float())
        return torch.cat(parts)


def _endless(request: TrainRequest, model: Model, packing: Packing) -> Iterator[Context]:
    """The corpus's contexts, again and again."""
    asked = request.corpus
    options = CorpusOptions(asked.column, asked.split, asked.skip_bad_rows)
    while True:
        n_counted = 0
        for context in pack(open_corpus(asked.spec, options), model.encode_text, packing, model.special_ids):
            n_counted += int(context.counted.sum())
            yield context
        if n_counted == 0:
            raise BadInput(f"{asked.spec} holds no token that counts", hint="is its text empty?")
