"""What a run is asked to do. Everything here that changes the result is part of the run's key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from featuredb.errors import BadInput

PackingKind = Literal["concat", "document"]

MOST_CONTEXT_LENGTH = 65_535
"""Segments keep positions in 16 bits."""


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """How much of each feature is kept."""

    n_examples: int = 24
    """Strongest contexts kept for each feature."""
    n_samples: int = 64
    """Uniformly sampled contexts kept for each feature."""
    n_panel: int = 2048
    """Contexts on which every activation is kept."""
    seed: int = 0
    """Chooses the samples and the panel."""

    def __post_init__(self) -> None:
        for name, most in (("n_examples", 1000), ("n_samples", 1000), ("n_panel", 1_000_000)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise BadInput(f"{name} is {value}", hint=f"give a number from 0 to {most}")
        if not -(2**63) <= self.seed < 2**63:
            raise BadInput(f"seed is {self.seed}", hint="give a 64-bit number")


@dataclass(frozen=True, slots=True)
class CorpusRequest:
    """Which text is run, and how it is cut into contexts."""

    spec: str
    """A corpus spec: a path, `jsonl:FILE`, `huggingface:ID`, `python-docs`."""
    n_tokens: int | None = None
    """Counted tokens to run; None runs the whole corpus."""
    packing: PackingKind = "concat"
    """`concat` joins documents into full contexts, as dictionaries are trained; `document` opens one for each."""
    context_length: int | None = None
    """Tokens in a context; None takes what the dictionaries were trained with."""
    column: str | None = None
    split: str | None = None
    skip_bad_rows: bool = False

    def __post_init__(self) -> None:
        if self.n_tokens is not None and self.n_tokens < 1:
            raise BadInput(f"--tokens is {self.n_tokens}", hint="give at least 1")
        if self.context_length is not None and not 2 <= self.context_length <= MOST_CONTEXT_LENGTH:
            raise BadInput(f"--context-length is {self.context_length}", hint=f"give 2 to {MOST_CONTEXT_LENGTH}")
        if self.packing not in ("concat", "document"):
            raise BadInput(f"--packing is {self.packing!r}", hint="give concat or document")


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Which model runs, and how."""

    source: str
    """A transformers id or folder."""
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None
    """Contexts in a forward pass; None starts at about 4,096 tokens. Halved whenever memory runs out."""
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise BadInput(f"--batch-size is {self.batch_size}", hint="give at least 1")


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """One ingest: a model, the dictionaries to watch, and the text to run."""

    model: ModelRequest
    dictionaries: tuple[str, ...]
    """Dictionary specs: a folder, `saelens:FOLDER`, `saelens:RELEASE/SAE_ID`."""
    corpus: CorpusRequest
    settings: CaptureSettings = field(default_factory=CaptureSettings)
    hook: str | None = None
    """Where the dictionaries read; None takes what they say."""
    name: str | None = None
    """The name of a single dictionary in the store; None takes the one it has."""
    fresh: bool = False
    """Begin anew where the default is to go on with an interrupted run."""
    checkpoint_seconds: float = 120.0
    """How often an unfinished run is written down; no part of the result."""

    def __post_init__(self) -> None:
        if not self.dictionaries:
            raise BadInput("no dictionary given", hint="name at least one with --dictionary")
        if self.name is not None and len(self.dictionaries) != 1:
            raise BadInput(
                f"--name {self.name!r} cannot name {len(self.dictionaries)} dictionaries at once",
                hint="leave it out, or ingest them one by one",
            )


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """One training: a model's hook, the text to run, and the dictionary to make of what is there."""

    model: ModelRequest
    corpus: CorpusRequest
    """n_tokens is how many to train on; the corpus is begun again as often as that takes."""
    hook: str
    n_features: int
    out: Path
    """The folder of the finished dictionary; checkpoints lie in it until then."""
    architecture: str = "batchtopk"
    k: int = 32
    l1: float = 5.0
    lr: float = 3e-4
    batch_size: int = 4096
    """Tokens in a training step."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.corpus.n_tokens is None:
            raise BadInput("how many tokens to train on is not said", hint="give --tokens")
