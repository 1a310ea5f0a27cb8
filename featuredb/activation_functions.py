"""What turns a dictionary's pre-activations into activations. Row by row: nothing here looks at another row.

The kinds, for one row h of pre-activations (F,), as sae-lens 6 computes them:

    relu              max(h, 0)
    jumprelu          max(h, 0) where h > threshold, strictly
    topk              the k largest of h, then max(., 0)
    abstopk           the k largest of |h|, signs kept
    groupmax          the largest of max(h, 0) in each of k equal, contiguous groups
    gated             max(h exp(r_mag) + b_mag, 0) where h + b_gate > 0; h carries no bias of its own
    matching_pursuit  no pre-activations: features are taken one after another from what is left of the input
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch

from featuredb.errors import BadInput

ActivationKind = Literal["relu", "jumprelu", "topk", "abstopk", "groupmax", "gated", "matching_pursuit"]

_NEEDS_K = ("topk", "abstopk", "groupmax")
_VECTORS: dict[str, tuple[str, ...]] = {"jumprelu": ("threshold",), "gated": ("b_gate", "b_mag", "r_mag")}


@dataclass(frozen=True, eq=False)
class Activation:
    """One activation function with its own numbers; calling it applies it."""

    kind: ActivationKind
    k: int | None = None
    """Features kept (topk, abstopk), or groups (groupmax)."""
    threshold: torch.Tensor | None = None
    """(F,) for jumprelu."""
    b_gate: torch.Tensor | None = None
    b_mag: torch.Tensor | None = None
    r_mag: torch.Tensor | None = None
    """(F,) each, for gated; r_mag is a logarithm."""
    residual_threshold: float = 0.0
    """Matching pursuit stops when the rest is shorter than this; 0 never stops it."""
    max_iterations: int | None = None
    """Matching pursuit's most steps; None means d_in."""
    stop_on_duplicate_support: bool = True
    """Matching pursuit stops when a step adds no new feature."""

    def check(self, name: str, n_features: int) -> None:
        """Raises BadInput, speaking of the dictionary `name`, when a number is missing or does not fit F."""
        if self.kind not in get_args(ActivationKind):
            raise BadInput(f"{name}: activation function {self.kind!r} is not known")
        if self.kind in _NEEDS_K and (self.k is None or not 1 <= self.k <= n_features):
            raise BadInput(f"{name}: {self.kind} needs k in 1..{n_features}, not {self.k}")
        if self.kind == "groupmax" and n_features % (self.k or 1):
            raise BadInput(f"{name}: groupmax cannot split {n_features} features into {self.k} equal groups")
        for vector in _VECTORS.get(self.kind, ()):
            if getattr(self, vector) is None:
                raise BadInput(f"{name}: {self.kind} needs {vector}")
        for vector, values in self.tensors().items():
            if values.shape != (n_features,):
                raise BadInput(f"{name}: {vector} has shape {tuple(values.shape)}, and there are {n_features} features")

    def tensors(self) -> dict[str, torch.Tensor]:
        """The arrays that this kind of activation has, by name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), torch.Tensor)}

    def settings(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON can hold it."""
        return {f.name: value for f in fields(self) if _is_setting(value := getattr(self, f.name))}

    def to(self, device: torch.device, dtype: torch.dtype) -> Activation:
        """The same function with its arrays elsewhere."""
        moved: dict[str, Any] = {name: value.to(device, dtype) for name, value in self.tensors().items()}
        return replace(self, **moved)

    def __call__(self, pre: torch.Tensor) -> torch.Tensor:
        """Activations (n, F) of pre-activations (n, F), which are left as they were."""
        match self.kind:
            case "relu":
                return pre.relu()
            case "jumprelu":
                assert self.threshold is not None
                return pre.relu() * (pre > self.threshold)
            case "topk":
                assert self.k is not None
                values, indices = torch.topk(pre, self.k, dim=-1, sorted=False)
                return torch.zeros_like(pre).scatter_(-1, indices, values.relu_())
            case "abstopk":
                assert self.k is not None
                indices = torch.topk(pre.abs(), self.k, dim=-1, sorted=False).indices
                return torch.zeros_like(pre).scatter_(-1, indices, pre.gather(-1, indices))
            case "groupmax":
                assert self.k is not None
                groups = pre.relu().view(*pre.shape[:-1], self.k, -1)
                best, indices = groups.max(dim=-1, keepdim=True)
                return torch.zeros_like(groups).scatter_(-1, indices, best).flatten(-2)
            case "gated":
                assert self.b_gate is not None
                assert self.b_mag is not None
                assert self.r_mag is not None
                return torch.addcmul(self.b_mag, pre, self.r_mag.exp()).relu_() * (pre + self.b_gate > 0)
            case "matching_pursuit":
                raise BadInput("matching pursuit has no pre-activations", hint="call the dictionary's encode()")


def matching_pursuit(rows: torch.Tensor, w_dec: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Activations (n, F) found greedily: the best feature is taken out of the rest, again and again.

    rows: (n, d), centred as the dictionary wants. w_dec: (F, d).
    Source: sae_lens/saes/matching_pursuit_sae.py, 6.54.12, whose order of operations is kept.
    """
    rest = rows.clone()
    acts = torch.zeros(rows.shape[0], w_dec.shape[0], device=w_dec.device, dtype=rows.dtype)
    support = torch.zeros_like(acts, dtype=torch.bool)
    done = torch.zeros(rows.shape[0], dtype=torch.bool, device=w_dec.device)
    for _ in range(w_dec.shape[1] if activation.max_iterations is None else activation.max_iterations):
        best = (rest @ w_dec.T).relu_().max(dim=1, keepdim=True).indices
        direction = w_dec[best.squeeze(1)]
        values = (rest * direction).sum(dim=-1, keepdim=True).relu_() * ~done[:, None]
        acts.scatter_add_(1, best, values)
        rest = rest - values * direction
        if activation.stop_on_duplicate_support:
            now = acts != 0
            done |= (now == support).all(dim=1)
            support = now
        if activation.residual_threshold > 0:
            done |= rest.norm(dim=-1) < activation.residual_threshold
        if bool(done.all()):
            break
    return acts


def _is_setting(value: object) -> bool:
    return value is not None and not isinstance(value, torch.Tensor)
