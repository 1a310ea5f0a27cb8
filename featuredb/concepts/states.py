"""What a model makes of texts at some hooks: the vectors that directions are made of.

Rule: one text's vectors never depend on the texts beside it, nor on how many run at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featuredb.concepts.choices import TOKENS, Token
from featuredb.concepts.texts import shortened
from featuredb.errors import BadInput
from featuredb.progress import Progress, ProgressReport, silent

if TYPE_CHECKING:
    import torch

    from featuredb.model import Model

Vectors32 = NDArray[np.float32]

BATCH_ROWS = 32
BATCH_BYTES = 1 << 28
"""Where no batch size is given, rows enough that their vectors stay below this."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of tokens, a text or a piece of one."""

    text: int
    """The text's place among those that were asked for."""
    ids: NDArray[np.int32]
    chosen: NDArray[np.bool_]
    """The tokens that speak for the text; never special ones."""


def states(
    model: Model,
    texts: Sequence[str],
    hooks: Sequence[str],
    *,
    token: Token = "last",
    chat: bool = False,
    batch_size: int | None = None,
    window: int | None = None,
    progress: ProgressReport = silent,
) -> dict[str, list[Vectors32]]:
    """The vectors of each text at each hook, (n_vectors, width) float32, in the order of the texts.

    token: "last" and "mean" give one vector a text, "all" one a token; special tokens are never among them.
    chat: put each text through the tokenizer's chat template, as a user's turn with the answer about to begin. "mean"
        and "all" then take the tokens of the text alone, "last" the last ordinary token before the answer.
    batch_size: rows a forward pass; None takes as many as is sensible. Less are taken where memory runs out.
    window: the most tokens a row; None takes as many as the model does. A longer text is cut into several rows, each
        opened by the model's BOS token, and nothing of it is left out.
    Raises BadInput for a text without ordinary tokens, for `chat` without a template, and where vectors are not finite.
    """
    if token not in TOKENS:
        raise BadInput(f"no choice of tokens {token!r}", hint="last, mean or all")
    rows = [row for at, text in enumerate(texts) for row in cut(model, at, text, token, chat, window)]
    found: dict[str, list[list[Vectors32]]] = {hook: [[] for _ in texts] for hook in hooks}
    if not hooks:
        return {}
    for done, (row, parts) in enumerate(_run(model, rows, hooks, batch_size), 1):
        for hook, part in parts.items():
            _require_finite(part, hook, model, texts[row.text])
            found[hook][row.text].append(part)
        progress(Progress("run texts", done, len(rows), "rows"))
    return {hook: [_gathered(parts, token) for parts in of_texts] for hook, of_texts in found.items()}


def n_windowed(model: Model, texts: Sequence[str], chat: bool = False, window: int | None = None) -> int:
    """How many of the texts are longer than one row."""
    return sum(len(cut(model, 0, text, "all", chat, window)) > 1 for text in texts)


def cut(model: Model, at: int, text: str, token: Token, chat: bool = False, window: int | None = None) -> list[Row]:
    """The rows of one text in order, each with at least one chosen token."""
    ids, ordinary = _tokens(model, text, token, chat)
    if not ordinary.any():
        raise BadInput(f"the text {shortened(text)!r} has no ordinary tokens for {model.name}", hint="leave it out")
    if token == "last":
        # A copy of where the text ends: everything else was there to be read, not to speak.
        ordinary = np.arange(len(ids)) == np.flatnonzero(ordinary)[-1]
    limits = [limit for limit in (window, model.max_length) if limit is not None]
    length = max(min(limits), 2) if limits else len(ids) + 1
    rows, start = [], 0
    while start < len(ids):
        opener = [] if model.bos_id is None or ids[start] == model.bos_id else [model.bos_id]
        end = start + length - len(opener)
        row = np.array([*opener, *ids[start:end]], dtype=np.int32)
        chosen = np.concatenate([np.zeros(len(opener), dtype=np.bool_), ordinary[start:end]])
        if chosen.any():
            rows.append(Row(at, row, chosen))
        start = end
    return rows


def _tokens(model: Model, text: str, token: Token, chat: bool) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Ids, and which of them are ordinary tokens that may speak for the text."""
    if not chat:
        ids = model.encode_text(text)
        return ids, _ordinary(model, ids)
    rendered = _rendered(model, text)
    if token == "last":
        ids = model.encode_text(rendered)
        return ids, _ordinary(model, ids)
    if not getattr(model.tokenizer, "is_fast", False):
        raise BadInput(
            f"the tokenizer of {model.name} does not say where its tokens lie", hint="take the last token instead"
        )
    encoded = model.tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = np.asarray(encoded["input_ids"], dtype=np.int32)
    said = text.strip()  # templates strip what they are given
    start = rendered.rfind(said)
    if start < 0:
        raise BadInput(
            f"the chat template of {model.name} changes the text {shortened(text)!r}",
            hint="take the last token instead",
        )
    offsets = np.asarray(encoded["offset_mapping"]).reshape(-1, 2)
    inside = (offsets[:, 0] < start + len(said)) & (offsets[:, 1] > start)
    return ids, inside & _ordinary(model, ids)


def _rendered(model: Model, text: str) -> str:
    if not getattr(model.tokenizer, "chat_template", None):
        raise BadInput(f"{model.name} has no chat template", hint="leave --chat out, or take a chat model")
    turns = [{"role": "user", "content": text}]
    try:
        rendered: str = model.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # noqa: BLE001  a template is a program that the publisher wrote
        raise BadInput(f"the chat template of {model.name} fails: {error}") from error
    return rendered


def _ordinary(model: Model, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    return ~np.isin(ids, list(model.special_ids))


def _run(
    model: Model, rows: Sequence[Row], hooks: Sequence[str], batch_size: int | None
) -> Iterator[tuple[Row, dict[str, Vectors32]]]:
    """Each row's vectors at its chosen tokens. The rows of a text come in order; those of like length run together."""
    from featuredb.model import is_out_of_memory

    # A stable sort of whole texts, by their longest row, keeps a text's rows in order.
    longest: dict[int, int] = {}
    for row in rows:
        longest[row.text] = max(longest.get(row.text, 0), len(row.ids))
    waiting = sorted(rows, key=lambda row: -longest[row.text])
    most = len(waiting)
    while waiting:
        size = min(most, batch_size or _sensible(model, len(waiting[0].ids), len(hooks)))
        batch = waiting[:size]
        try:
            outputs = _forward(model, batch, hooks)
        except Exception as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            most = len(batch) // 2
            continue
        yield from zip(batch, outputs, strict=True)
        waiting = waiting[size:]


def _sensible(model: Model, length: int, n_hooks: int) -> int:
    return max(min(BATCH_ROWS, BATCH_BYTES // (4 * length * model.d_model * n_hooks)), 1)


def _forward(model: Model, batch: Sequence[Row], hooks: Sequence[str]) -> list[dict[str, Vectors32]]:
    import torch

    length = max(len(row.ids) for row in batch)
    ids = torch.full((len(batch), length), model.pad_id, dtype=torch.int64)
    mask = torch.zeros((len(batch), length), dtype=torch.bool)
    for at, row in enumerate(batch):
        ids[at, : len(row.ids)] = torch.from_numpy(row.ids.astype(np.int64))
        mask[at, : len(row.ids)] = True
    outputs = model.run(ids, mask, hooks)
    return [{hook: _chosen(output[at], row) for hook, output in outputs.items()} for at, row in enumerate(batch)]


def _chosen(output: torch.Tensor, row: Row) -> Vectors32:
    places: Any = np.flatnonzero(row.chosen)
    vectors: Vectors32 = output[places].float().cpu().numpy()
    return vectors


def _gathered(parts: Sequence[Vectors32], token: Token) -> Vectors32:
    vectors = np.concatenate(parts)
    if token == "mean":
        mean: Vectors32 = vectors.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        return mean
    return vectors


def _require_finite(vectors: Vectors32, hook: str, model: Model, text: str) -> None:
    if not np.isfinite(vectors).all():
        raise BadInput(
            f"{model.name}: {hook} is not finite on the text {shortened(text)!r}",
            hint="half precision overflows in some models; run it in bfloat16 or float32",
        )
