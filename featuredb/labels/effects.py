"""What adding a feature's decoder row does to the model's output, in the space of an embedder of texts.

Rule: effects only; which label they speak for is the scorer's business.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import BadInput
from featuredb.labels.evidence import Evidence
from featuredb.labels.workshop import Workshop

if TYPE_CHECKING:
    import torch

N_TEXTS = 16
"""Neutral texts that a feature is added to. More and shorter ones said a little more than 8 of 24 tokens."""

LENGTH = 12
"""Tokens of each."""

N_COMMON = 64
"""Other features whose mean effect is taken off: what any push does says nothing of this one."""

N_TOKENS = 12
"""Output tokens raised most that an effect on a language model is described by."""

Floats = NDArray[np.float32]


class Effects:
    """Effects of one dictionary's features. Raises BadInput where its model gives neither logits nor embeddings."""

    def __init__(self, workshop: Workshop, evidence: Evidence, seed: int) -> None:
        self._workshop = workshop
        self._evidence = evidence
        self._seed = seed
        self._known: dict[int, Floats] = {}

    @cached_property
    def channel(self) -> str:
        """ "tokens": logits of a language model; "embedding": the model is the embedder of texts itself."""
        import torch

        model, texts = self._workshop.model, ["an ordinary sentence", "x = 1"]
        if model.unembedding() is not None:
            return "tokens"
        ours = []
        for text in texts:
            ids = torch.tensor([model.tokenizer(text)["input_ids"]])
            state = model.module(input_ids=ids.to(model.device)).last_hidden_state[0].mean(dim=0)
            ours.append((state / state.norm()).detach().float().cpu().numpy())
        theirs = self._workshop.embed(texts)
        if theirs.shape[1] != model.d_model or float(np.sum(theirs * np.stack(ours), axis=1).min()) < 0.99:
            raise BadInput(
                f"{model.name} gives neither logits nor the embeddings of {self._workshop.embedder.id}",
                hint="the causal scorer needs a language model, or a model of texts that is the embedder itself",
            )
        return "embedding"

    def of(self, feature: int) -> Floats:
        """(width,) what a feature's effect says, in the embedder's space, less what any feature's does; zeros where it
        has no effect."""
        return _unit(self._own(feature) - self._common)

    def raised(self, feature: int, n: int) -> list[tuple[str, float]]:
        """The n output tokens whose log-probability adding the feature raises most, with by how much, in nats.

        Raises BadInput for a model without logits.
        """
        if self.channel != "tokens":
            raise BadInput(f"{self._workshop.model.name} gives no logits", hint="steering needs a language model")
        change = self._pushed(feature)
        texts = self._evidence.passages.texts
        return [(texts[token], float(change[token])) for token in np.argsort(-change, kind="stable")[:n].tolist()]

    @cached_property
    def _common(self) -> Floats:
        alive = np.flatnonzero(self._evidence.n_fires > 0)
        chosen = np.random.default_rng((self._seed, 0)).permutation(alive)[:N_COMMON]
        common: Floats = np.mean([self._own(int(index)) for index in chosen], axis=0)
        return common

    def _pushed(self, feature: int) -> Floats:
        import torch

        row = torch.from_numpy(self._workshop.decoder.take([feature])[0])
        # As strong as the run ever saw it. From half to four times the 95th percentile the answer is the same.
        return self._change(row * float(self._evidence.largest[feature]))

    def _own(self, feature: int) -> Floats:
        if feature not in self._known:
            self._known[feature] = self._measured(feature)
        return self._known[feature]

    def _measured(self, feature: int) -> Floats:
        change = self._pushed(feature)
        if self.channel == "embedding":
            return change
        raised = np.argsort(-change, kind="stable")[:N_TOKENS]
        texts = self._evidence.passages.texts
        vectors = self._workshop.embed([texts[token].strip() or repr(texts[token]) for token in raised.tolist()])
        return _unit((np.maximum(change[raised], 0)[:, None] * vectors).sum(axis=0))

    def _change(self, vector: torch.Tensor) -> Floats:
        """Mean change of the output over the neutral texts: (vocab,) log-probabilities or (width,) an embedding."""
        from featuredb.model.steer import steered_output

        ids, mask, before = self._neutral
        model = self._workshop.model
        hook = self._workshop.hook_out
        after = self._said(steered_output(model, ids, mask, hook, vector[None].expand(len(ids), -1)))
        change: Floats = (after - before).mean(dim=0).cpu().numpy()
        return change

    @cached_property
    def _neutral(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        import torch

        from featuredb.model.steer import steered_output

        model, passages = self._workshop.model, self._evidence.passages
        long_enough = np.flatnonzero(np.diff(passages.start) >= LENGTH)
        chosen = np.random.default_rng((self._seed, 1)).permutation(long_enough)[:N_TEXTS]
        if len(chosen) == 0:
            raise BadInput(f"no text of {LENGTH} tokens in the scoring half", hint="ingest more text")
        rows = [passages.token[passages.start[piece] : passages.start[piece] + LENGTH] for piece in np.sort(chosen)]
        opener = [] if model.bos_id is None else [model.bos_id]
        ids = torch.tensor([[*opener, *row.tolist()] for row in rows])
        mask = torch.ones_like(ids, dtype=torch.bool)
        nothing = torch.zeros(len(ids), model.d_model)
        return ids, mask, self._said(steered_output(model, ids, mask, self._workshop.hook_out, nothing))

    def _said(self, output: torch.Tensor) -> torch.Tensor:
        """(n_texts, vocab) mean log-probabilities, or (n_texts, width) unit embeddings."""
        import torch

        if self.channel == "tokens":
            return output.float().log_softmax(dim=-1).mean(dim=1)
        return torch.nn.functional.normalize(output.float().mean(dim=1), dim=-1)


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    unit: Floats = (vector / length if length > 0 else np.zeros_like(vector)).astype(np.float32)
    return unit
