"""A model that can be run up to a hook and no further.

Rule: activations leave as the model made them, in its own number type: no casts, no checks of values, no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from featuredb.errors import BadInput
from featuredb.model import tokens
from featuredb.model.hooks import HookMap, Point
from featuredb.model.readout import folded_unembedding


@dataclass(frozen=True, eq=False)
class Model:
    """A transformers model, its tokenizer and its hooks. Made by load_model and model_from."""

    name: str
    """What to call it: the Hub's id, or the folder's name."""
    source: str
    """What it was loaded from, as it was given."""
    fingerprint: str
    """Hex; the same for the same weights and config: a hash of the files, or the Hub's commit."""
    architecture: str
    """The class of the model in transformers."""
    n_layers: int
    """Blocks."""
    d_model: int
    """Width of the residual stream."""
    device: torch.device
    """Where it runs."""
    dtype: torch.dtype
    """The number type it runs in, and that activations come in."""
    max_length: int | None
    """The most tokens it takes in a row; None where it does not say."""
    vocab_size: int
    """Rows of its token embedding; ids stay below."""
    module: nn.Module
    """The transformers model itself, in evaluation mode."""
    tokenizer: Any
    """The transformers tokenizer."""
    hook_map: HookMap
    """Where its hooks are."""

    @cached_property
    def bos_id(self) -> int | None:
        """The id that opens a text; [CLS] in models that have that instead; None where neither is known."""
        return tokens.first_id(self.tokenizer)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that stand for no text."""
        return tokens.special_ids(self.tokenizer)

    @cached_property
    def pad_id(self) -> int:
        """A valid id for places that the mask hides."""
        return min(tokens.padding_id(self.tokenizer), self.vocab_size - 1)

    def hooks(self) -> list[str]:
        """Canonical names of every hook, in the order a forward pass meets them."""
        return list(self.hook_map.points)

    def hook_width(self, hook: str) -> int:
        """The width of a hook's activations: every hook of the grammar reads or writes the residual stream's width."""
        self.resolve_hook(hook)
        return self.d_model

    def resolve_hook(self, name: str) -> str:
        """The canonical name; TransformerLens names and module paths are understood. Raises NotFound."""
        return self.hook_map.resolve(name, self.name)

    def run(self, ids: torch.Tensor, mask: torch.Tensor, hooks: Sequence[str]) -> dict[str, torch.Tensor]:
        """The activations at some hooks, by the names they were asked for; the model stops after the last of them.

        ids: (n, T) int64, rows padded on the right. mask: (n, T) bool, false on padding.
        Returns (n, T, width) tensors of the model's dtype on its device; what they hold on padding means nothing.
        Raises BadInput on ids or lengths the model does not take; running out of memory raises what torch raises.
        """
        self._check(ids, mask)
        points = {name: self.hook_map.points[self.resolve_hook(name)] for name in hooks}
        if not points:
            return {}
        places = read(self.module, ids.to(self.device), mask.to(self.device), set(map(_place, points.values())))
        outputs = {name: _rows(places[_place(point)], ids.shape) for name, point in points.items()}
        for name, output in outputs.items():
            if output.shape != (*ids.shape, self.d_model):
                raise BadInput(
                    f"{self.name}: {name} gives {tuple(output.shape)} for {tuple(ids.shape)} tokens",
                    hint=f"a hook must give {self.d_model} numbers for each token",
                )
        return outputs

    def unembedding(self) -> torch.Tensor | None:
        """(d_model, vocab) of the model's dtype: what a direction in the residual stream, after the last block and up
        to one factor per token, adds to each logit. The final norm's gain, and its centring where it centres, are
        folded in. None where the model has no language-model head.
        """
        return folded_unembedding(self.module, self.hook_map.blocks, self.d_model)

    def token_texts(self) -> list[str]:
        """The display text of every token id, leading spaces kept; at least vocab_size of them."""
        return tokens.token_texts(self.tokenizer, self.vocab_size)

    def encode_text(self, text: str) -> npt.NDArray[np.int32]:
        """(n,) token ids of a text of any length, with no special tokens put around it."""
        return tokens.encode_text(self.tokenizer, text)

    def _check(self, ids: torch.Tensor, mask: torch.Tensor) -> None:
        if ids.ndim != 2 or ids.shape != mask.shape or 0 in ids.shape:
            raise BadInput(
                f"{self.name}: ids {tuple(ids.shape)} and mask {tuple(mask.shape)} are not one (n, T) batch",
                hint="give both as (contexts, tokens), neither of them 0",
            )
        if self.max_length is not None and ids.shape[1] > self.max_length:
            raise BadInput(
                f"{self.name} takes at most {self.max_length} tokens in a row, not {ids.shape[1]}",
                hint=f"give a context length of {self.max_length} or less",
            )
        # On CUDA an id out of range would take the whole process down; there the look costs a wait, so only on the CPU.
        if ids.device.type == "cpu" and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocab_size:
            wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
            raise BadInput(
                f"{self.name} has no token {wrong}; its ids run from 0 to {self.vocab_size - 1}",
                hint="the tokenizer belongs to another model",
            )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device; a smaller batch may then do."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    signs = ("out of memory", "DefaultCPUAllocator", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "bad_alloc")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


Place = tuple[str, str]
"""A module's path, and which side of it."""


class _Reached(Exception):  # noqa: N818  not an error: it ends a forward pass that has nothing left to give
    """Raised inside a forward pass once every activation asked for is there."""


@torch.inference_mode()
def read(module: nn.Module, ids: torch.Tensor, mask: torch.Tensor, places: set[Place]) -> Mapping[Place, torch.Tensor]:
    """The tensors at some places of the module tree, the pass being stopped after the last of them."""
    found: dict[Place, torch.Tensor] = {}

    def keep(place: Place, value: torch.Tensor) -> None:
        found[place] = value
        if len(found) == len(places):
            raise _Reached
        # What runs on may write into the tensor: Falcon adds its branches in place.
        found[place] = value.clone()

    handles = []
    try:
        for place in places:
            part = module.get_submodule(place[0])
            if place[1] == "input":
                handles.append(part.register_forward_pre_hook(_on_input(keep, place), with_kwargs=True))
            else:
                handles.append(part.register_forward_hook(_on_output(keep, place)))
        module(input_ids=ids, attention_mask=mask.long(), use_cache=False)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    missed = sorted(path for path, _ in places - found.keys())
    if missed:
        raise BadInput(f"{type(module).__name__} never ran {missed[0]}", hint="choose another hook")
    return found


def _on_input(keep: Any, place: Place) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(place, _first_tensor(kwargs.get("hidden_states", args)))

    return hook


def _on_output(keep: Any, place: Place) -> Any:
    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        keep(place, _first_tensor(output))

    return hook


def _first_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    for item in value:
        if isinstance(item, torch.Tensor):
            return item
    raise BadInput(f"a module gives {type(value).__name__}, which holds no tensor", hint="choose another hook")


def _place(point: Point) -> Place:
    return point.path, point.side


def _rows(value: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(n, T, width), also where a module was handed all tokens as one (n * T, width) table."""
    if value.ndim == 2 and value.shape[0] == shape[0] * shape[1]:
        return value.reshape(*shape, value.shape[1])
    return value
