"""From the residual stream to the logits: the unembedding with the final norm folded in.

Rule: what the norm does is measured, never guessed from its class; Gemma's gain is 1 + weight, others' is the weight.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from featuredb.model.hooks import is_norm


@torch.inference_mode()
def folded_unembedding(module: nn.Module, blocks: str, d_model: int) -> torch.Tensor | None:
    """(d_model, vocab) of the model's dtype, the final norm folded in; None without a head of the stream's width.

    module: a transformers model. blocks: the path of its list of blocks, beside which its final norm stands.
    Source: folding a norm into the weights that read after it, as TransformerLens's fold_ln does.
    """
    weight = getattr(_head(module), "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 2 or weight.shape[1] != d_model:
        return None
    norm = final_norm(module, blocks)
    if norm is None:
        return weight.T.clone()
    gain, centres = measured_norm(norm, d_model)
    folded = weight.float().T * gain.to(weight.device)[:, None]
    if centres:
        # A part common to all dimensions is subtracted by the norm and never reaches the logits.
        folded -= folded.mean(dim=0, keepdim=True)
    return folded.to(weight.dtype)


def _head(module: nn.Module) -> nn.Module | None:
    """The model's head where it reads the final norm directly; BERT's and ESM's has layers of its own in between."""
    get_head = getattr(module, "get_output_embeddings", None)
    head = get_head() if get_head else None
    return head if any(child is head for child in module.children()) else None


def final_norm(module: nn.Module, blocks: str) -> nn.Module | None:
    """The norm between the last block and the head: the last one defined beside the list of blocks."""
    parent = module.get_submodule(blocks.rpartition(".")[0])
    norms = [child for name, child in parent.named_children() if is_norm(child) and not _before_blocks(name)]
    return norms[-1] if norms else None


def measured_norm(norm: nn.Module, width: int) -> tuple[torch.Tensor, bool]:
    """(width,) float32 gain of a norm, and whether it subtracts the mean, from its answers to two inputs."""
    weight = next(norm.parameters(), None)
    exact = copy.deepcopy(norm).float()
    # Far above any epsilon, and its difference to the mirrored input leaves no bias.
    even = torch.full((1, 1, width), 1024.0, device=None if weight is None else weight.device)
    response = (exact(even) - exact(-even)).flatten() / 2
    # What is constant over the dimensions is all mean: a norm that subtracts the mean leaves nothing of it.
    if float(response.abs().max()) > 1e-3:
        return response, False
    ramp = torch.linspace(1.0, 2.0, width, device=even.device)
    ramp = torch.where(torch.arange(width, device=even.device) % 2 == 0, ramp, -ramp)
    centred = ramp - ramp.mean()
    expected = centred / centred.pow(2).mean().sqrt()
    response = (exact(1024.0 * ramp) - exact(-1024.0 * ramp)).flatten() / 2
    return response / expected, True


def _before_blocks(name: str) -> bool:
    return "emb" in name and "after" not in name
