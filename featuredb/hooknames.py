"""Hook names as publishers write them, put into the one grammar of hooks. Strings only: no model is looked at here.

    layers.{i}.{resid_pre,resid_post,mlp_in,mlp_out,attn_out}   and   embed

A name is only translated where it means the same tensor in every architecture. `hook_mlp_in` (before the norm) and
`ln2.hook_normalized` (before the norm's gain) are not the MLP's input, and a bare `...mlp` is not what enters the
residual stream where a norm follows it; such names come back unchanged, for the model itself to accept or refuse.
"""

from __future__ import annotations

import re

SITES = ("resid_pre", "resid_post", "mlp_in", "mlp_out", "attn_out")

_CANONICAL = re.compile(rf"layers\.(\d+)\.({'|'.join(SITES)})|embed")

_TRANSFORMER_LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_post": "resid_post",
    "mlp.hook_in": "mlp_in",
    "hook_mlp_out": "mlp_out",
    "hook_attn_out": "attn_out",
}

_MODULE_TREE = {
    "input": "resid_pre",
    "": "resid_post",
    "output": "resid_post",
    "mlp.input": "mlp_in",
    "pre_feedforward_layernorm.output": "mlp_in",
    "post_feedforward_layernorm.output": "mlp_out",
}

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_MODULE = re.compile(r"(?:.+\.)?(?:layers|h)\.(\d+)(?:\.(.+))?")


def canonical_hook(name: str) -> str:
    """A TransformerLens name or a transformers module path in our grammar; `name` unchanged where none is the same."""
    if is_canonical(name):
        return name
    if name == "hook_embed":
        return "embed"
    if block := _BLOCK.fullmatch(name):
        site = _TRANSFORMER_LENS.get(block[2])
        return f"layers.{int(block[1])}.{site}" if site else name
    if module := _MODULE.fullmatch(name):
        site = _MODULE_TREE.get(module[2] or "")
        return f"layers.{int(module[1])}.{site}" if site else name
    return name


def is_canonical(name: str) -> bool:
    """Whether a name is already in the grammar."""
    return _CANONICAL.fullmatch(name) is not None


def same_tensor(hook: str) -> str:
    """One name for all hooks that read the same tensor: what leaves a block is what enters the next.

    Names that are not in the grammar come back unchanged.
    """
    if hook == "embed":
        return "layers.0.resid_pre"
    found = _CANONICAL.fullmatch(hook)
    if found and found[2] == "resid_post":
        return f"layers.{int(found[1]) + 1}.resid_pre"
    return hook


def layer_of(hook: str) -> int | None:
    """The layer a hook belongs to; None for `embed` and for names that are not in the grammar."""
    found = _CANONICAL.fullmatch(hook)
    return int(found[1]) if found and found[1] is not None else None
