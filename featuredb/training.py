"""What a trainer plugin is asked for and what it reports. Plain records; no training happens here.

A trainer keeps its checkpoints in `folder/checkpoints/step-N`, so that whoever feeds it activations can ask
`resume_step` how many batches to pass over before it begins.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featuredb.errors import BadInput, nearest

ARCHITECTURES = ("standard", "topk", "batchtopk", "jumprelu", "gated", "matryoshka")
PLAN_FILE = "plan.json"
CHECKPOINTS = "checkpoints"

_STEP = re.compile(r"step-(\d+)")
_NEEDS_K = ("topk", "batchtopk", "matryoshka")


@dataclass(frozen=True)
class TrainingPlan:
    """One training, entirely: the same plan and the same activations give the same weights. Checked when made."""

    d_in: int
    """Width of the hook."""
    n_features: int
    n_tokens: int
    """Activation rows to train on; the last part of a batch is left out."""
    architecture: str = "batchtopk"
    """One of ARCHITECTURES; "batch-top-k" and the like are read too."""
    k: int = 32
    """Features that fire on a row (topk), or on average (batchtopk, matryoshka)."""
    l1: float = 5.0
    """Weight of the sparsity penalty: L1 for standard and gated, L0 for jumprelu; the others have none."""
    lr: float = 3e-4
    batch_size: int = 4096
    seed: int = 0
    scale_activations: bool = True
    """Train on rows scaled to a mean length of sqrt(d_in); the scale is folded into the finished weights."""
    dead_after: int = 1000
    """Steps without firing after which a feature is dead (and, in the top-k kinds, pulled towards the error)."""
    widths: tuple[int, ...] = ()
    """Matryoshka's nested widths, rising to n_features; empty means 1/8, 1/4, 1/2 and all."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    device: str = "cpu"
    model: str | None = None
    hook: str | None = None
    context_length: int | None = None
    prepend_bos: bool | None = None
    corpus: str | None = None
    """Written into the finished dictionary, which remembers what it was trained on."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", architecture_named(self.architecture))
        object.__setattr__(self, "widths", tuple(self.widths))
        for name in ("d_in", "n_features", "batch_size", "n_tokens", "dead_after", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.n_tokens < self.batch_size:
            raise BadInput(
                f"{self.n_tokens} tokens do not fill one batch of {self.batch_size}",
                hint="train on more tokens, or in smaller batches",
            )
        if self.architecture in _NEEDS_K and not 1 <= self.k <= self.n_features:
            raise BadInput(f"k must be in 1..{self.n_features}, not {self.k}")
        if not self.lr > 0 or not self.l1 >= 0:
            raise BadInput(f"lr must be above 0 and l1 at least 0, not {self.lr} and {self.l1}")
        if self.widths and (list(self.widths) != sorted(set(self.widths)) or self.widths[-1] != self.n_features):
            raise BadInput(f"widths must rise to {self.n_features}, not {self.widths}")

    @property
    def n_steps(self) -> int:
        """Batches the training takes."""
        return self.n_tokens // self.batch_size

    def matryoshka_widths(self) -> list[int]:
        """The nested widths, the last of them n_features."""
        return list(self.widths) or sorted({max(1, self.n_features // part) for part in (8, 4, 2, 1)})

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        return asdict(self) | {"widths": list(self.widths)}


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is, measured on the last batch."""

    step: int
    """Steps done."""
    n_steps: int
    loss: float
    explained_variance: float
    """1 - squared error / variance of the batch."""
    dead_fraction: float
    """Features silent for longer than the plan's `dead_after`."""
    l0: float
    """Features that fire on a row, on average."""


def architecture_named(name: str) -> str:
    """The architecture meant by a spelling of it. Raises BadInput naming the nearest."""
    plain = re.sub(r"[\s_-]", "", name.lower())
    plain = {"matryoshkabatchtopk": "matryoshka", "relu": "standard"}.get(plain, plain)
    if plain not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise BadInput(
            f"no architecture called {name!r}", hint=nearest(plain, ARCHITECTURES, otherwise=f"there are {known}")
        )
    return plain


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint under a training's folder."""
    held = folder / CHECKPOINTS
    found = {int(step[1]): entry for entry in held.glob("step-*") if (step := _STEP.fullmatch(entry.name))}
    return found[max(found)] if found else None


def resume_step(folder: Path) -> int:
    """Batches that a training in `folder` has already used, all of them when it is finished; 0 when it is new."""
    if is_finished(folder):
        return read_plan(folder).n_steps
    last = latest_checkpoint(folder)
    return 0 if last is None else int(last.name.removeprefix("step-"))


def read_plan(folder: Path) -> TrainingPlan:
    """The plan of the training in a folder. Raises BadInput when its file is broken."""
    path = folder / PLAN_FILE
    try:
        return TrainingPlan(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path} is not a training plan: {error}", hint="train in an empty folder") from error


def is_finished(folder: Path) -> bool:
    """Whether a training's folder holds the finished dictionary: its cfg.json is written last."""
    return (folder / "cfg.json").is_file() and (folder / PLAN_FILE).is_file()
