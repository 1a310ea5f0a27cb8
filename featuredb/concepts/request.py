"""What a concept is asked to be made of. Checked when made; nothing is loaded or read here."""

from __future__ import annotations

from dataclasses import dataclass

from featuredb.concepts.catalog import check_concept_name
from featuredb.concepts.choices import METHOD_NAMES, TOKENS, MethodName, Token
from featuredb.errors import BadInput


@dataclass(frozen=True, slots=True)
class Running:
    """How the model runs the texts."""

    device: str = "auto"
    dtype: str = "auto"
    """"auto" takes what the store's newest run of the model was in, else what suits the device."""
    batch_size: int | None = None
    """Rows in a forward pass; None takes as many as is sensible."""
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise BadInput(f"--batch-size is {self.batch_size}", hint="give at least 1")


@dataclass(frozen=True, slots=True)
class ConceptRequest:
    """One concept: its texts, and how a direction is made of them."""

    name: str
    positive: tuple[str, ...]
    """Files, or texts themselves; see `featuredb.concepts.texts.read_texts`."""
    negative: tuple[str, ...]
    model: str | None = None
    """A model's name in the store, a transformers id or a folder; None takes the store's only model."""
    hooks: tuple[str, ...] = ()
    """Where directions are made; with no layers either, wherever the store's dictionaries of the model read."""
    layers: tuple[int, ...] = ()
    """More of them: what these blocks give."""
    method: MethodName = "mean-difference"
    token: Token = "last"
    chat: bool = False
    seed: int = 0
    """Decides which texts are left out together."""
    running: Running = Running()
    replace: bool = False
    """Take the place of a concept of that name."""

    def __post_init__(self) -> None:
        check_concept_name(self.name)
        if self.method not in METHOD_NAMES:
            raise BadInput(f"no method {self.method!r}", hint=", ".join(METHOD_NAMES))
        if self.token not in TOKENS:
            raise BadInput(f"no choice of tokens {self.token!r}", hint=", ".join(TOKENS))
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"seed is {self.seed}", hint="give a whole number from 0")
