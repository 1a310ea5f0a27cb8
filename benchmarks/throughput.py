"""Tokens a second of a whole ingest, beside the floor: what no capture can do without, on the same batches.

1. Floor: run the model to the hook, then torch.addmm, torch.topk and relu over the counted tokens, in the chunks that
   the engine uses; results are thrown away. Once more with whole batches, to show that the chunks are the lower floor.
2. Ingest: the real one, from its first forward pass to its commit, segment and index written.
3. Floor and ingests take turns in one process; each ingest is set against the floor of its own round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.common import Bench, Figure, spread, timed
from benchmarks.stopwatch import STAGES, Stopwatch
from benchmarks.workload import Shape, gpt2_small, make_dictionary, make_model, make_plan

if TYPE_CHECKING:
    from featuredb.capture.contexts import Context
    from featuredb.capture.plan import Plan

ASKED = 0.90
N_ROUNDS = 1
HEADS = {"no head": False, "LM head": True}
"""With a language-model head, a run also finds each feature's promoted tokens: one product, whatever the tokens, that
the floor has no part of. So what is asked is asked of the first."""
PROMOTED = "promoted tokens"


def measure(bench: Bench) -> list[Figure]:
    shape = gpt2_small(bench)
    dictionary = make_dictionary(bench, shape)
    plans = {name: make_plan(shape, make_model(bench, shape, head=head), dictionary) for name, head in HEADS.items()}
    floor = Floor(plans["no head"])
    floor.run(floor.batches[:1], floor.chunk_rows)  # the first pass of a process pays for its threads and buffers
    floors: list[float] = []
    ingests: dict[str, list[float]] = {name: [] for name in plans}
    watches: dict[str, Stopwatch] = {}
    for turn in range(1 if bench.quick else N_ROUNDS):
        floors.append(timed(lambda: floor.run(floor.batches, floor.chunk_rows)))
        bench.say(f"floor {shape.n_tokens / floors[-1]:,.0f} tokens/s")
        for name, plan in plans.items():
            seconds, watches[name] = run_ingest(store_folder(bench, name, turn), plan)
            ingests[name].append(seconds)
            bench.say(f"{name} {shape.n_tokens / seconds:,.0f} tokens/s, {floors[-1] / seconds:.3f} of the floor")
    whole = timed(lambda: floor.run(floor.batches, floor.most_rows))
    for name, watch in watches.items():
        bench.details[f"Where an ingest's time goes: {name}"] = breakdown(watch, ingests[name][-1])
    once = watches["LM head"].seconds[PROMOTED]
    return _figures(shape, floors, ingests, whole, once)


def _figures(
    shape: Shape, floors: list[float], ingests: dict[str, list[float]], whole: float, once: float
) -> list[Figure]:
    """whole: seconds of the floor with whole batches. once: of the promoted tokens."""
    how = f"{shape.n_layers} × {shape.width}, {shape.n_features:,} features, top {shape.k}, {shape.n_tokens:,} tokens"
    found = []
    for name, seconds in ingests.items():
        ratios = [floor / ours for floor, ours in zip(floors, seconds, strict=True)]
        speed = shape.n_tokens / statistics.median(seconds)
        measured = f"{spread(ratios)}; {speed:,.0f} tokens/s"
        if HEADS[name]:
            found.append(Figure(f"throughput, {name}", "", f"{measured}; {once:.1f} s for promoted tokens", how))
        else:
            met = statistics.median(ratios) >= ASKED
            found.append(Figure(f"throughput, {name}", f"≥ {ASKED:.2f} of the floor", measured, how, met))
    speed, slower = shape.n_tokens / statistics.median(floors), shape.n_tokens / whole
    measured = f"{speed:,.0f} tokens/s; {slower:,.0f} encoding whole batches"
    return [*found, Figure("throughput, the floor", "", measured, "forward pass, addmm, topk, relu; nothing kept")]


class Floor:
    """The least that the arithmetic takes."""

    def __init__(self, plan: Plan) -> None:
        from featuredb.capture.encode import SparseEncoder
        from featuredb.capture.loop import pad

        self.plan = plan
        self.dictionary = plan.dictionaries[0].to(device=plan.model.device, dtype=torch.float32)
        self.chunk_rows = SparseEncoder(self.dictionary).chunk_rows
        self.batches = []
        size = plan.batch_size
        contexts = contexts_of(plan)
        for start in range(0, len(contexts), size):
            some = contexts[start : start + size]
            ids, mask = pad(some, plan.model.pad_id)
            counted = torch.zeros(ids.shape, dtype=torch.bool)
            for line, context in zip(counted, some, strict=True):
                line[: len(context.counted)] = torch.from_numpy(context.counted)
            self.batches.append((torch.from_numpy(ids), torch.from_numpy(mask), counted))
        self.most_rows = max(int(counted.sum()) for _, _, counted in self.batches)

    def run(self, batches: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], chunk_rows: int) -> None:
        bias, encoder, k = self.dictionary.b_enc, self.dictionary.w_enc, self.dictionary.activation.k
        assert encoder is not None
        assert k is not None
        hook = self.plan.hooks[0]
        buffer = torch.empty(chunk_rows, self.dictionary.n_features)
        for ids, mask, counted in batches:
            x = self.plan.model.run(ids, mask, [hook])[hook][counted]
            for start in range(0, len(x), chunk_rows):
                part = x[start : start + chunk_rows]
                pre = torch.addmm(bias, part, encoder, out=buffer[: len(part)])
                values, _ = torch.topk(pre, k, dim=1, sorted=False)
                torch.relu_(values)


def contexts_of(plan: Plan) -> list[Context]:
    """The contexts that an ingest of the plan runs."""
    from featuredb.capture.contexts import pack
    from featuredb.corpora import open_corpus
    from featuredb.corpus import CorpusOptions

    asked = plan.request.corpus
    documents = open_corpus(asked.spec, CorpusOptions(asked.column, asked.split, asked.skip_bad_rows))
    model = plan.model
    return list(pack(documents, model.encode_text, plan.packing, model.special_ids, asked.n_tokens))


def store_folder(bench: Bench, name: str, turn: int) -> Path:
    """Where a round's store lies; the last round's are kept for other figures."""
    return bench.folder / f"throughput-{name.replace(' ', '-')}-{turn}.fdb"


def run_ingest(path: Path, plan: Plan) -> tuple[float, Stopwatch]:
    """Seconds from the first forward pass of an ingest into a new store to its commit."""
    from featuredb.database import open as open_store

    with Stopwatch().running() as watch, open_store(path, create=True) as db:
        db.ingest(plan)
        end = time.perf_counter()
    assert watch.started is not None
    return end - watch.started, watch


def breakdown(watch: Stopwatch, seconds: float) -> str:
    """A table of the stages; what is left over is everything that has no name there."""
    spent = {stage: watch.seconds[stage] for stage in STAGES if watch.seconds[stage] > 0}
    spent["everything else"] = max(0.0, seconds - sum(spent.values()))
    lines = ["| stage | seconds | share |", "| --- | ---: | ---: |"]
    lines += [f"| {stage} | {taken:.2f} | {taken / seconds:.1%} |" for stage, taken in spent.items()]
    return "\n".join(lines)
