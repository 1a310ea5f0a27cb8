"""Where in a model activations are read: one grammar of hooks, found by the structure of the module tree.

Rule: names and modules only. Nothing is run here, so all of it also works on a model without weights.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from featuredb.errors import BadInput, NotFound, nearest
from featuredb.hooknames import canonical_hook

KINDS = ("resid_pre", "attn_out", "mlp_in", "mlp_out", "resid_post")
BRANCHES = ("attn_out", "mlp_out")

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_MLP = re.compile(r"mlp|ffn|feed_?forward|moe", re.IGNORECASE)
_OTHER_TOWER = re.compile(r"vision|visual|image|audio", re.IGNORECASE)
# An MLP spread over two modules of the block, its entry and its exit: BERT and its kin, then OPT.
_SPLIT_MLPS = (("intermediate", "output"), ("fc1", "fc2"))
# Norms between a branch and the residual stream. Only as a pair: alone, Llama's post_attention_layernorm opens the MLP.
_POST_NORMS = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    ("post_self_attn_layernorm", "post_mlp_layernorm"),
)
# Norms whose output is what the MLP reads; publishers name these.
_MLP_NORMS = ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2")
# A module that takes one of these adds the residual stream itself.
_RESIDUAL_ARGUMENTS = {"residual", "input_tensor"}

_ABSENT = {
    "hook_resid_mid": "featuredb has no hook between attention and MLP (resid_mid)",
    "hook_z": "featuredb has no hook on the attention heads before they are mixed (hook_z)",
    "hook_mlp_in": "TransformerLens reads hook_mlp_in before the norm, featuredb's mlp_in is after it",
    "hook_normalized": "featuredb has no hook between a norm and its gain; mlp_in is after both",
}


@dataclass(frozen=True, slots=True)
class Point:
    """One hook on the module tree."""

    name: str
    """Its canonical name."""
    path: str
    """The module, as named_modules() calls it."""
    side: Literal["input", "output"]
    """What is read of it."""


@dataclass(frozen=True)
class HookMap:
    """The hooks of one model and every name they go by."""

    points: dict[str, Point]
    """By canonical name, in the order a forward pass meets them."""
    blocks: str
    """Path of the list of blocks."""
    n_layers: int
    post_norm: bool
    """Whether the blocks normalise after adding, as BERT's do: then the branches do not add up to resid_post."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Canonical names by "path.side"."""
    plain_embedding: bool = True
    """Whether what enters the first block is the token embedding alone."""
    withheld: str | None = None
    """Why the model has no attn_out and mlp_out, where it has none."""

    def without_branches(self, reason: str) -> HookMap:
        """The same map with attn_out and mlp_out taken out, for a model whose blocks scale or mix their branches."""

        def kept(name: str) -> bool:
            return not name.endswith(BRANCHES)

        return HookMap(
            points={name: point for name, point in self.points.items() if kept(name)},
            blocks=self.blocks,
            n_layers=self.n_layers,
            post_norm=self.post_norm,
            aliases={alias: name for alias, name in self.aliases.items() if kept(name)},
            plain_embedding=self.plain_embedding,
            withheld=reason,
        )

    def resolve(self, name: str, model: str) -> str:
        """The canonical name of a hook given in featuredb's, TransformerLens's or transformers' words.

        model: the model's name, for the message. Raises NotFound with the nearest names.
        """
        if name in self.points:
            return name
        canonical = self._from_transformer_lens(name) or self._from_path(name)
        if canonical in self.points:
            return canonical
        raise NotFound(f"{model} has no hook {name!r}", hint=self._hint(name, canonical))

    def _from_transformer_lens(self, name: str) -> str | None:
        if name == "hook_embed" and self.plain_embedding:
            return "embed"
        return canonical_hook(name) if name.startswith("blocks.") else None

    def _from_path(self, name: str) -> str | None:
        path = name if name.endswith((".input", ".output")) else f"{name}.output"
        # A path may be given from the model with its head or from its base, whichever of the two was loaded.
        base = self.blocks.split(".")[0] + "."
        for written in (path, base + path, path.partition(".")[2]):
            if written in self.aliases:
                return self.aliases[written]
        return None

    def _hint(self, name: str, canonical: str | None) -> str:
        every = f"it has embed and layers.0 to layers.{self.n_layers - 1}, each with {', '.join(self._kinds())}"
        if name == "hook_embed":
            return "hook_embed leaves out what this model adds to its token embedding; embed is what enters layer 0"
        for absent, reason in _ABSENT.items():
            if name.endswith(absent):
                return f"{reason}; {every}"
        entered = self.aliases.get(f"{name.removesuffix('.output')}.input")
        if entered and entered.endswith("mlp_in"):
            out = entered.replace("mlp_in", "mlp_out")
            return f"more follows {name} before it joins the stream; {out} is what joins, {entered} what enters"
        wanted = canonical or name
        if self.withheld and wanted.endswith(BRANCHES):
            return f"{self.withheld}; {every}"
        layer = re.search(r"(?:^|\.)(?:layers?|blocks|h)\.(\d+)", wanted)
        if layer and int(layer[1]) >= self.n_layers:
            return every
        # Layers aside, so that the suggestion keeps the layer that was asked for.
        same_layer = [known for known in self.points if layer and known.startswith(f"layers.{int(layer[1])}.")]
        return nearest(wanted, same_layer or self.points, otherwise=every) or every

    def _kinds(self) -> list[str]:
        return [kind for kind in KINDS if f"layers.0.{kind}" in self.points]


def find_hooks(module: nn.Module, n_layers: int) -> HookMap:
    """The hooks of a transformers model, with or without its head.

    module: weights are not looked at, so a model on the meta device will do.
    n_layers: how many blocks its config says it has.
    Raises BadInput, with the reason, where no list of blocks holds attention and an MLP each.
    """
    blocks_path, blocks = _find_blocks(module, n_layers)
    points: dict[str, Point] = {}
    aliases: dict[str, str] = {}
    points["embed"] = Point("embed", f"{blocks_path}.0", "input")
    for layer, block in enumerate(blocks):
        path = f"{blocks_path}.{layer}"
        for kind, (inner, side) in _block_points(block).items():
            name = f"layers.{layer}.{kind}"
            points[name] = Point(name, f"{path}.{inner}" if inner else path, side)
            aliases[f"{points[name].path}.{side}"] = name
        for norm in _mlp_norms(block):
            aliases[f"{path}.{norm}.output"] = f"layers.{layer}.mlp_in"
    return HookMap(
        points=points,
        blocks=blocks_path,
        n_layers=n_layers,
        post_norm=_normalises_after_adding(blocks[0]),
        aliases=aliases,
        plain_embedding=_plain_embedding(module, blocks_path),
    )


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises, by its class."""
    return "norm" in type(module).__name__.lower()


def _find_blocks(module: nn.Module, n_layers: int) -> tuple[str, nn.ModuleList]:
    found: list[tuple[str, nn.ModuleList]] = []
    for path, part in module.named_modules():
        inside = any(path.startswith(f"{other}.") for other, _ in found)
        if isinstance(part, nn.ModuleList) and len(part) == n_layers and not inside and not _OTHER_TOWER.search(path):
            found.append((path, part))
    called = type(module).__name__
    if not found:
        raise BadInput(
            f"{called} has no list of {n_layers} blocks, which its config says it has",
            hint="featuredb reads transformers whose blocks stand in one list, each with its own weights",
        )
    whole = [(path, blocks) for path, blocks in found if all(_has_both(block) for block in blocks)]
    if not whole:
        block = next(block for block in found[0][1] if not _has_both(block))
        raise BadInput(
            f"{called} cannot be read: a {type(block).__name__} holds {_contents(block)}, not attention and an MLP",
            hint="featuredb reads transformers; state-space, recurrent and hybrid models are not supported",
        )
    if len(whole) > 1:
        raise BadInput(
            f"{called} has {len(whole)} lists of {n_layers} blocks: {', '.join(path for path, _ in whole)}",
            hint="featuredb reads models with one residual stream",
        )
    return whole[0]


def _contents(block: nn.Module) -> str:
    return " and ".join(f"{name} ({type(part).__name__})" for name, part in block.named_children()) or "nothing"


def _has_both(block: nn.Module) -> bool:
    return _attention(block) is not None and _mlp(block) is not None


def _working_children(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Children that compute: no norms, no dropout, no attention to another sequence."""
    for name, child in block.named_children():
        if is_norm(child) or "cross" in name.lower() or next(child.parameters(), None) is None:
            continue
        yield name, child


def _matching(block: nn.Module, pattern: re.Pattern[str]) -> str | None:
    children = list(_working_children(block))
    for name, _ in children:
        if pattern.search(name):
            return name
    for name, child in children:
        if pattern.search(type(child).__name__):
            return name
    return None


def _attention(block: nn.Module) -> str | None:
    return _matching(block, _ATTENTION)


def _mlp(block: nn.Module) -> tuple[str, str] | None:
    """The names of the children through which the MLP is entered and left."""
    name = _matching(block, _MLP)
    if name is not None:
        return name, name
    children = {child for child, _ in _working_children(block)}
    return next((pair for pair in _SPLIT_MLPS if children.issuperset(pair)), None)


def _block_points(block: nn.Module) -> dict[str, tuple[str, Literal["input", "output"]]]:
    """Path inside the block and side, for each kind of hook, in the order a forward pass meets them."""
    attention, mlp = _attention(block), _mlp(block)
    if attention is None or mlp is None:  # _find_blocks has seen to it
        raise BadInput(f"{type(block).__name__} holds no attention and MLP")
    attention_out = _adding_module(block, attention)
    mlp_out = _adding_module(block, mlp[1])
    children = dict(block.named_children())
    for after_attention, after_mlp in _POST_NORMS:
        if after_attention in children and after_mlp in children:
            attention_out, mlp_out = after_attention, after_mlp
    return {
        "resid_pre": ("", "input"),
        "attn_out": (attention_out, "output"),
        "mlp_in": (mlp[0], "input"),
        "mlp_out": (mlp_out, "output"),
        "resid_post": ("", "output"),
    }


def _residual_adder(part: nn.Module) -> tuple[str, nn.Module] | None:
    for path, inner in part.named_modules():
        if _RESIDUAL_ARGUMENTS & set(inspect.signature(inner.forward).parameters):
            return path, inner
    return None


def _adding_module(block: nn.Module, name: str) -> str:
    """The module whose output joins the residual stream, within or equal to the named child."""
    adder = _residual_adder(block.get_submodule(name))
    if adder is None:
        return name
    path, inner = adder
    linears = [inner_name for inner_name, child in inner.named_modules() if isinstance(child, nn.Linear)]
    return ".".join(part for part in (name, path, *linears[-1:]) if part)


def _normalises_after_adding(block: nn.Module) -> bool:
    """Whether a module of the block adds the residual stream and then normalises the sum."""
    adders = [_residual_adder(child) for _, child in _working_children(block)]
    return any(is_norm(child) for adder in adders if adder is not None for child in adder[1].children())


def _mlp_norms(block: nn.Module) -> list[str]:
    children = dict(block.named_children())
    after = {name for pair in _POST_NORMS if children.keys() >= set(pair) for name in pair}
    # Where the MLP reads the bare stream, no norm is its input.
    return [name for name in _MLP_NORMS if name in children and name not in after]


def _plain_embedding(module: nn.Module, blocks_path: str) -> bool:
    outside = [(path, part) for path, part in module.named_modules() if not path.startswith(f"{blocks_path}.")]
    embeddings = [path for path, part in outside if isinstance(part, nn.Embedding)]
    norms = [path for path, part in outside if is_norm(part) and "emb" in path.lower() and "after" not in path.lower()]
    return len(embeddings) == 1 and not norms
