"""Texts through a model: cut into contexts as a run cuts them, and run in padded batches, one pass for every hook.

Rule: tokens in, vectors out. No dictionary is known here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.capture.contexts import Context, Packing, pack
from featuredb.capture.loop import pad
from featuredb.corpus import Document
from featuredb.errors import BadInput

if TYPE_CHECKING:
    import torch

    from featuredb.model import Model

BATCH_TOKENS = 4096
"""Places in a batch, padding among them."""

BLOCK_BYTES = 1 << 29
"""Vectors held at a time, over all hooks: texts without end do not need memory without end."""


@dataclass(frozen=True, slots=True, eq=False)
class CutTexts:
    """Some texts as a model reads them. A token's row is its place in all of them, one text after another."""

    ids: tuple[NDArray[np.int32], ...]
    """Each text's tokens, as they are in the text: none put before, between or after."""
    starts: NDArray[np.int64]
    """(n_texts + 1,) the row of each text's first token, and the number of rows."""
    last: NDArray[np.int64]
    """(n_texts,) the row of each text's last ordinary token."""
    n_ordinary: NDArray[np.int64]
    """(n_texts,) ordinary tokens of each text: special ones, spelt out in it, are read and never counted."""
    contexts: tuple[Context, ...]
    n_contexts: NDArray[np.int64]
    """(n_texts,) into how many contexts each text was cut."""

    @property
    def n_rows(self) -> int:
        return int(self.starts[-1])


def cut(texts: Sequence[str], model: Model, packing: Packing) -> CutTexts:
    """The texts, each in contexts of its own, nothing of any left out.

    Raises BadInput, saying which, for a text that is empty, is no text, or has no ordinary token.
    """
    for number, text in enumerate(texts):
        if not text.strip():
            raise BadInput(f"{_which(number, texts)} is empty", hint="give some words to run")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadInput(f"{_which(number, texts)} is not UTF-8 at character {error.start}") from error
    ids = [model.encode_text(text) for text in texts]
    contexts = tuple(_contexts(ids, packing, model.special_ids))
    starts = np.concatenate([[0], np.cumsum([len(each) for each in ids])])
    ordinary = np.zeros(starts[-1], dtype=bool)
    for context in contexts:
        ordinary[_rows(context, starts)] = True
    n_ordinary = np.diff(np.concatenate([[0], np.cumsum(ordinary)])[starts])
    if not n_ordinary.all():
        number = int(n_ordinary.argmin())
        message = f"{_which(number, texts)} {_short(texts[number])} has no tokens for {model.name}"
        raise BadInput(message, hint="give some words to run")
    return CutTexts(
        ids=tuple(ids),
        starts=starts,
        last=np.flatnonzero(ordinary)[np.cumsum(n_ordinary) - 1],
        n_ordinary=n_ordinary,
        contexts=contexts,
        n_contexts=np.bincount([context.pieces[0].document for context in contexts], minlength=len(ids)),
    )


def vectors(
    model: Model, texts: CutTexts, hooks: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], dict[str, torch.Tensor]]]:
    """Blocks of tokens: their rows (n,), in no order, and at each hook their vectors (n, width) float32.

    Every ordinary token comes once. Contexts of like length share a batch, and a batch that memory is too small for is
    halved. Raises BadInput where vectors are not finite.
    """
    import torch

    most = max(BLOCK_BYTES // (4 * model.d_model * len(hooks)), 1)
    rows: list[NDArray[np.int64]] = []
    parts: dict[str, list[torch.Tensor]] = {hook: [] for hook in hooks}
    for batch in _batches(texts.contexts):
        for found, outputs in _run(model, batch, texts, hooks):
            if rows and sum(map(len, rows)) + len(found) > most:
                yield np.concatenate(rows), {hook: torch.cat(each) for hook, each in parts.items()}
                rows, parts = [], {hook: [] for hook in hooks}
            rows.append(found)
            for hook, output in outputs.items():
                parts[hook].append(output)
    if rows:
        yield np.concatenate(rows), {hook: torch.cat(each) for hook, each in parts.items()}


def _contexts(ids: Sequence[NDArray[np.int32]], packing: Packing, special_ids: Collection[int]) -> Iterator[Context]:
    waiting = iter(ids)
    documents = (Document(str(number), "") for number in range(len(ids)))
    return pack(documents, lambda _: next(waiting), packing, special_ids)


def _batches(contexts: Sequence[Context]) -> Iterator[list[Context]]:
    batch: list[Context] = []
    for context in sorted(contexts, key=lambda context: -len(context.ids)):
        # The first is the longest, so it says how wide the batch is.
        if batch and (len(batch) + 1) * len(batch[0].ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(context)
    if batch:
        yield batch


def _run(
    model: Model, contexts: list[Context], texts: CutTexts, hooks: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], dict[str, torch.Tensor]]]:
    """One batch; more, and smaller ones, where memory runs out."""
    from featuredb.model import is_out_of_memory

    try:
        yield _forward(model, contexts, texts, hooks)
        return
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(contexts) == 1:
            raise
    half = len(contexts) // 2
    yield from _run(model, contexts[:half], texts, hooks)
    yield from _run(model, contexts[half:], texts, hooks)


def _forward(
    model: Model, contexts: list[Context], texts: CutTexts, hooks: Sequence[str]
) -> tuple[NDArray[np.int64], dict[str, torch.Tensor]]:
    import torch

    ids, mask = pad(contexts, model.pad_id)
    outputs = model.run(torch.from_numpy(ids), torch.from_numpy(mask), hooks)
    counted = np.zeros(ids.shape, dtype=bool)
    for line, context in zip(counted, contexts, strict=True):
        line[: len(context.ids)] = context.counted
    chosen = torch.from_numpy(counted).to(model.device)
    found = {hook: output[chosen].float() for hook, output in outputs.items()}
    for hook, x in found.items():
        if not math.isfinite(float(x.sum())):  # a sum looks at each number once, isfinite().all() thrice
            dtype = str(model.dtype).removeprefix("torch.")
            raise BadInput(
                f"{model.name}: {hook} is not finite on this text",
                hint=f"the store's run was in {dtype}, which overflows on some texts",
            )
    return np.concatenate([_rows(context, texts.starts) for context in contexts]), found


def _rows(context: Context, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of a context's ordinary tokens."""
    piece = context.pieces[0]  # the only one: each text has its contexts to itself
    return np.flatnonzero(context.counted) + (int(starts[piece.document]) + piece.offset - piece.start)


def _which(number: int, texts: Sequence[str]) -> str:
    return "the text" if len(texts) == 1 else f"text {number + 1} of {len(texts)}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
