"""The hot path: contexts in, reducers full. One forward pass a batch for all hooks; everything else hides beside it.

Batches are gathered into blocks of about BLOCK_ROWS tokens, and reducers see whole blocks: sorting and merging have a
cost for each feature, which a block spreads over many tokens. A run stops and goes on between blocks only, so an
interrupted run meets the same batches and blocks as an unbroken one and ends in the same bits.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from featuredb.capture.contexts import Context
from featuredb.capture.encode import SparseEncoder
from featuredb.capture.firings import Firings, Rows
from featuredb.capture.moments import HookMoments
from featuredb.capture.state import CaptureState, chain_digest
from featuredb.errors import BadInput, Interrupted
from featuredb.model import Model, is_out_of_memory

BLOCK_ROWS = 16_384
BLOCK_BYTES = 1 << 27
"""A block is smaller where vectors are so wide that its rows would pass this."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A dictionary and the model's hook it reads."""

    encoder: SparseEncoder
    hook: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model made of some contexts."""

    rows: Rows
    vectors: dict[str, torch.Tensor]
    """(n_rows, d) float32 for each hook, counted tokens only."""


class CaptureLoop:
    """Runs contexts through the model and the dictionaries into a state."""

    def __init__(self, model: Model, watched: Sequence[Watched], state: CaptureState) -> None:
        self.model = model
        self.watched = watched
        self.state = state
        self.hooks = sorted({each.hook for each in watched})
        widest = max(model.hook_width(hook) for hook in self.hooks)
        self.block_rows = max(256, min(BLOCK_ROWS, BLOCK_BYTES // (4 * widest)))

    def run(self, contexts: Iterator[Context], on_block: Callable[[], None], checkpoint_seconds: float = 120.0) -> None:
        """Takes contexts until they end; on_block is called after each block. Raises Interrupted on Ctrl-C."""
        saved_at = time.monotonic()
        with _stop_flag() as stopping:
            while block := self._next_block(contexts, stopping):
                self._reduce(*block)
                on_block()
                if time.monotonic() - saved_at >= checkpoint_seconds:
                    self.state.save()
                    saved_at = time.monotonic()
            if stopping.is_set():
                self.state.save()
                raise Interrupted("stopped by Ctrl-C", hint="the same command goes on from here")

    def _next_block(
        self, contexts: Iterator[Context], stopping: threading.Event
    ) -> tuple[list[Context], list[Batch]] | None:
        """The next block's contexts and vectors; None at the end, and where a stop was asked for in the middle."""
        taken: list[Context] = []
        batches: list[Batch] = []
        while sum(len(batch.rows) for batch in batches) < self.block_rows:
            if stopping.is_set():
                return None
            pending = list(islice(contexts, self.state.batch_size))
            if not pending:
                break
            taken += pending
            batches += self._run_model(pending)
        return (taken, batches) if batches else None

    def _run_model(self, contexts: list[Context]) -> list[Batch]:
        """One batch; more, and smaller ones from then on, where memory runs out."""
        try:
            return [self._forward(contexts)]
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(contexts) == 1:
                raise
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        self.state.batch_size = max(1, len(contexts) // 2)
        size = self.state.batch_size
        return [
            batch
            for start in range(0, len(contexts), size)
            for batch in self._run_model(contexts[start : start + size])
        ]

    def _forward(self, contexts: list[Context]) -> Batch:
        ids, mask = pad(contexts, self.model.pad_id)
        counted = np.zeros(ids.shape, dtype=bool)
        for line, context in zip(counted, contexts, strict=True):
            line[: len(context.counted)] = context.counted
        outputs = self.model.run(torch.from_numpy(ids), torch.from_numpy(mask), self.hooks)
        chosen = torch.from_numpy(counted).to(self.model.device)
        vectors = {hook: outputs[hook][chosen].float() for hook in self.hooks}
        rows = rows_of(contexts)
        for hook, x in vectors.items():
            _require_finite(x, hook, rows, self.model)
        return Batch(rows, vectors)

    def _reduce(self, contexts: list[Context], batches: list[Batch]) -> None:
        state = self.state
        rows = Rows.concatenate([batch.rows for batch in batches])
        on_panel = state.panel.add(np.array([context.index for context in contexts], dtype=np.int64))
        for hook in self.hooks:
            x = torch.cat([batch.vectors[hook] for batch in batches])
            if hook not in state.hooks:
                shift = x.mean(dim=0) if len(x) else torch.zeros(x.shape[1])
                state.hooks[hook] = HookMoments(shift.cpu().numpy())
            centred = x - torch.from_numpy(state.hooks[hook].shift).to(x.device)
            for each, reducers in zip(self.watched, state.reducers, strict=True):
                if each.hook == hook:
                    found = each.encoder.encode(x)
                    n_features = each.encoder.dictionary.n_features
                    firings = Firings.sort(n_features, found.feature, found.row, found.activation, rows)
                    reducers.add(firings, centred, on_panel)
            state.hooks[hook].add(centred)
        state.spool.add(contexts)
        state.digest = chain_digest(state.digest, contexts)
        state.n_contexts += len(contexts)
        state.n_tokens += len(rows)


def pad(contexts: Sequence[Context], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(n, longest) token ids padded on the right, and which of them are there."""
    longest = max(len(context.ids) for context in contexts)
    ids = np.full((len(contexts), longest), pad_id, dtype=np.int64)
    mask = np.zeros(ids.shape, dtype=bool)
    for line, there, context in zip(ids, mask, contexts, strict=True):
        line[: len(context.ids)] = context.ids
        there[: len(context.ids)] = True
    return ids, mask


def rows_of(contexts: Sequence[Context]) -> Rows:
    """The counted tokens of some contexts, with the bounds of the document each belongs to."""
    parts = []
    for context in contexts:
        low = np.zeros(len(context.ids), dtype=np.int32)
        high = np.full(len(context.ids), len(context.ids), dtype=np.int32)
        for piece in context.pieces:
            low[piece.start : piece.end] = piece.start
            high[piece.start : piece.end] = piece.end
        position = np.flatnonzero(context.counted).astype(np.int32)
        parts.append(
            Rows(np.full(len(position), context.index, dtype=np.int64), position, low[position], high[position])
        )
    return Rows.concatenate(parts)


def _require_finite(x: torch.Tensor, hook: str, rows: Rows, model: Model) -> None:
    if torch.isfinite(x).all():
        return
    row = int((~torch.isfinite(x)).any(dim=1).nonzero()[0, 0])
    raise BadInput(
        f"{model.name}: {hook} is not finite in context {rows.context[row]} at position {rows.position[row]}",
        hint=f"the model ran in {str(model.dtype).removeprefix('torch.')}; try --dtype float32",
    )


@contextmanager
def _stop_flag() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; a second one stops at once, and the run goes on from its last checkpoint."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = signal.getsignal(signal.SIGINT)

    def on_interrupt(number: int, frame: object) -> None:
        stopping.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)
