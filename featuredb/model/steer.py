"""A model run with a vector added at a hook: what a direction does to the output.

Rule: the same hooks as reading; the model itself is left as it was, also when the run fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from featuredb.errors import BadInput
from featuredb.model.run import Model


@torch.inference_mode()
def steered_output(
    model: Model, ids: torch.Tensor, mask: torch.Tensor, hook: str, vectors: torch.Tensor
) -> torch.Tensor:
    """The model's output with a vector added to every token's activation at a hook.

    ids, mask: (n, T) as for Model.run. vectors: (n, width), one for each row; zeros leave a row as it is.
    Returns (n, T, vocab) logits of a model with a head, else (n, T, d_model) last hidden states; the model's dtype.
    Raises NotFound for a hook that the model has not, BadInput where the vectors do not fit.
    """
    point = model.hook_map.points[model.resolve_hook(hook)]
    if vectors.shape != (len(ids), model.d_model):
        raise BadInput(
            f"vectors of shape {tuple(vectors.shape)} for {len(ids)} rows of {model.d_model}",
            hint="give one vector of the model's width for each row",
        )
    added = vectors.to(model.device, model.dtype)[:, None, :]
    with _adding(model.module.get_submodule(point.path), point.side, added):
        found = model.module(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device).long(), use_cache=False
        )
    logits = getattr(found, "logits", None)
    output: torch.Tensor = found.last_hidden_state if logits is None else logits
    return output


@contextmanager
def _adding(part: nn.Module, side: str, added: torch.Tensor) -> Iterator[None]:
    handle = (
        part.register_forward_pre_hook(_before(added), with_kwargs=True)
        if side == "input"
        else part.register_forward_hook(_after(added))
    )
    try:
        yield
    finally:
        handle.remove()


def _before(added: torch.Tensor) -> Any:
    def hook(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if "hidden_states" in kwargs:
            return args, {**kwargs, "hidden_states": _plus(kwargs["hidden_states"], added)}
        return (_plus(args[0], added), *args[1:]), kwargs

    return hook


def _after(added: torch.Tensor) -> Any:
    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return _plus(output, added)
        return (_plus(output[0], added), *output[1:])

    return hook


def _plus(value: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    if value.ndim == 2:  # all tokens as one (n * T, width) table
        return value + added.expand(-1, len(value) // len(added), -1).reshape(value.shape)
    return value + added
