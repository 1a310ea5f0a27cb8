"""A request made definite: model and dictionaries loaded, hooks met, defaults taken, and the key that names the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from featuredb.capture.contexts import Packing
from featuredb.capture.encode import SparseEncoder
from featuredb.capture.loop import Watched
from featuredb.capture.request import MOST_CONTEXT_LENGTH, IngestRequest
from featuredb.corpora import choose_plugin
from featuredb.dictionary import Dictionary
from featuredb.errors import BadInput
from featuredb.model import Model
from featuredb.store.layout import RADIUS, SEGMENT_SCHEMA

DEFAULT_CONTEXT_LENGTH = 128
"""Where no dictionary says what it was trained with; sae-lens's own default."""
BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run needs to know before its first token."""

    request: IngestRequest
    model: Model
    dictionaries: tuple[Dictionary, ...]
    """Under their names in the store, as they were given; each in its own dtype."""
    hooks: tuple[str, ...]
    """Where each dictionary reads this model, canonical."""
    packing: Packing
    batch_size: int
    corpus_plugin: str
    notes: tuple[str, ...]
    """What the run does otherwise than the dictionaries say they were trained, in sentences."""

    def watched(self) -> list[Watched]:
        """The dictionaries where the model runs, in float32."""
        return [
            Watched(SparseEncoder(dictionary.to(device=self.model.device, dtype=torch.float32)), hook)
            for dictionary, hook in zip(self.dictionaries, self.hooks, strict=True)
        ]

    def settings(self) -> dict[str, object]:
        """Everything that changes what the run leaves, as JSON can hold it."""
        return {
            "schema": SEGMENT_SCHEMA,
            "radius": RADIUS,
            "model": self.model.fingerprint,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "dictionaries": [
                [dictionary.name, dictionary.fingerprint, hook]
                for dictionary, hook in zip(self.dictionaries, self.hooks, strict=True)
            ],
            "corpus": [
                self.corpus_plugin,
                self.request.corpus.spec,
                self.request.corpus.column,
                self.request.corpus.split,
                self.request.corpus.skip_bad_rows,
            ],
            "n_tokens": self.request.corpus.n_tokens,
            "packing": asdict(self.packing),
            "batch_size": self.batch_size,
            **asdict(self.request.settings),
        }

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits: the same for the same work, and for no other."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]


def make_plan(request: IngestRequest, model: Model, dictionaries: Sequence[Dictionary]) -> Plan:
    """Raises NotFound for a hook the model has not, and BadInput where widths, lengths or names do not meet."""
    named = _named(request, dictionaries)
    hooks = tuple(_meet(model, dictionary, request.hook) for dictionary in named)
    notes: list[str] = []
    packing = Packing(
        kind=request.corpus.packing,
        context_length=_context_length(request, model, named, notes),
        bos_id=_bos(model, named, notes),
        separator_id=model.bos_id,
    )
    batch_size = request.model.batch_size or max(1, BATCH_TOKENS // packing.context_length)
    for dictionary in named:
        trained = dictionary.trained.model
        if trained is not None and not _same_model(trained, model):
            notes.append(f"{dictionary.name} says it was trained on {trained}, not {model.name}")
    plugin = choose_plugin(request.corpus.spec)[0].name
    return Plan(request, model, named, hooks, packing, batch_size, plugin, tuple(notes))


def _named(request: IngestRequest, dictionaries: Sequence[Dictionary]) -> tuple[Dictionary, ...]:
    if request.name is not None:
        if len(dictionaries) != 1:
            raise BadInput(
                f"--name {request.name!r} cannot name the {len(dictionaries)} dictionaries found",
                hint="leave it out, or ingest them one by one",
            )
        dictionaries = [replace(dictionaries[0], name=request.name)]
    names = [dictionary.name for dictionary in dictionaries]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two dictionaries are called {name!r}", hint="ingest them one by one, with --name")
    return tuple(dictionaries)


def _meet(model: Model, dictionary: Dictionary, asked: str | None) -> str:
    """The hook a dictionary reads in this model."""
    if not (asked or dictionary.hook):
        raise BadInput(f"{dictionary.name} does not say which hook it reads", hint="name it with --hook")
    hook = model.resolve_hook(asked or dictionary.hook)
    width = model.hook_width(hook)
    if dictionary.d_in != width:
        raise BadInput(
            f"{dictionary.name} reads vectors of width {dictionary.d_in}, but {hook} of {model.name} has width {width}",
            hint=f"was it trained on another model? it says: {dictionary.trained.model or 'nothing of its model'}",
        )
    return hook


def _context_length(request: IngestRequest, model: Model, dictionaries: Sequence[Dictionary], notes: list[str]) -> int:
    said = {d.name: d.trained.context_length for d in dictionaries if d.trained.context_length is not None}
    most = min(model.max_length or MOST_CONTEXT_LENGTH, MOST_CONTEXT_LENGTH)
    asked = request.corpus.context_length
    if asked is not None:
        if asked > most:
            raise BadInput(
                f"--context-length {asked} is more than {model.name} reads, {most}", hint=f"give at most {most}"
            )
        notes += [
            f"context length {asked}; {name} was trained with {length}"
            for name, length in said.items()
            if length != asked
        ]
        return asked
    if len(set(said.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in said.items())
        raise BadInput(
            f"the dictionaries were trained with different context lengths: {listed}",
            hint="choose with --context-length",
        )
    length = next(iter(said.values()), DEFAULT_CONTEXT_LENGTH)
    if length > most:
        notes.append(f"context length {most}, all that {model.name} reads; trained with {length}")
        return most
    return length


def _bos(model: Model, dictionaries: Sequence[Dictionary], notes: list[str]) -> int | None:
    """The token that opens each context, as the dictionaries were trained; where none says, the model's own."""
    said = {d.name: d.trained.prepend_bos for d in dictionaries if d.trained.prepend_bos is not None}
    if len(set(said.values())) > 1:
        without = ", ".join(name for name, prepend in said.items() if not prepend)
        notes.append(f"contexts open with a beginning-of-text token, which {without} was trained without")
    wanted = any(said.values()) if said else True
    return model.bos_id if wanted else None


def _same_model(trained: str, model: Model) -> bool:
    """Whether two names may be of one model: TransformerLens drops the organisation and writes gpt2-small for gpt2."""
    tails = {name.rstrip("/").rsplit("/", 1)[-1].lower().removesuffix("-small") for name in (trained, model.name)}
    return len(tails) == 1
