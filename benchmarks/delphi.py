"""The same work by eai-delphi, which keeps every activation in memory, beside ours: same model, encoder and tokens.

Ours is a whole ingest. Theirs is measured twice: caching alone, and with every feature's examples built, which is what
an ingest has at its end. Theirs runs in a process of its own, turn by turn with ours.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import ROOT, Bench, Figure, spread
from benchmarks.install_delphi import delphi_python
from benchmarks.throughput import contexts_of, run_ingest
from benchmarks.workload import Shape, gpt2_small, make_dictionary, make_model, make_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featuredb.capture.plan import Plan

HOOKPOINT = "h.8"
"""Their name for the hook: the module's path."""
BATCH_SIZE = 32
"""Their default, and ours at this context length."""
N_ROUNDS = 1
N_TOKENS = 16_384
"""A quarter of the throughput's: building every feature's examples takes theirs many times longer than caching."""
ASKED = {"cache": 1.8, "all": 4.0}
NAMES = {
    "cache": "against Delphi's caching",
    "all": "against Delphi with examples",
    "examples": "against Delphi with examples, no non-activating ones",
}


def measure(bench: Bench) -> list[Figure]:
    import torch

    python = delphi_python()
    shape = gpt2_small(bench)
    shape = replace(shape, n_tokens=min(shape.n_tokens, N_TOKENS))
    model, dictionary = make_model(bench, shape, head=False), make_dictionary(bench, shape)
    plan = make_plan(shape, model, dictionary)
    tokens = whole_rows(plan, shape)
    path = bench.folder / "delphi-tokens.npy"
    np.save(path, tokens)
    ours: list[float] = []
    theirs: list[dict[str, Any]] = []
    for turn in range(1 if bench.quick else N_ROUNDS):
        seconds, _ = run_ingest(bench.folder / f"delphi-{turn}.fdb", plan)
        ours.append(shape.n_tokens / seconds)
        out = bench.folder / f"delphi-{turn}"
        out.mkdir()
        # Building examples takes longest by far, so its second setting is tried in the first round only.
        settings = "all,examples" if turn == 0 else "all"
        arguments = [model, dictionary, path, out, HOOKPOINT, shape.k, BATCH_SIZE, settings]
        theirs.append(run_worker(python, [str(argument) for argument in arguments], torch.get_num_threads()))
        bench.say(f"ours {ours[-1]:,.0f} tokens/s; theirs {theirs[-1]}")
    return [_figure(name, ours, theirs, tokens.size) for name in NAMES]


def whole_rows(plan: Plan, shape: Shape) -> NDArray[np.int64]:
    """(n, context length) the ingest's own rows, as many whole batches as there are."""
    rows = [context.ids for context in contexts_of(plan) if len(context.ids) == shape.context_length]
    return np.stack(rows[: len(rows) // BATCH_SIZE * BATCH_SIZE]).astype(np.int64)


def run_worker(python: Path, arguments: list[str], n_threads: int) -> dict[str, Any]:
    """The seconds of each step."""
    done = subprocess.run(
        [str(python), "-P", str(ROOT / "benchmarks" / "delphi_worker.py"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": str(n_threads), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        check=True,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _figure(name: str, ours: list[float], theirs: list[dict[str, Any]], n_tokens: int) -> Figure:
    """Ours over theirs, in tokens a second; their caching is part of each."""
    rounds = [(mine, answer) for mine, answer in zip(ours, theirs, strict=True) if name in answer]
    speeds = [n_tokens / (answer["cache"] + (answer[name] if name != "cache" else 0.0)) for _, answer in rounds]
    ratios = [mine / speed for (mine, _), speed in zip(rounds, speeds, strict=True)]
    asked = ASKED.get(name)
    steps = "LatentCache.run and save_splits" + ("" if name == "cache" else ", then LatentDataset")
    records = "" if name == "cache" else f" ({rounds[0][1][f'{name}_records']:,} features)"
    return Figure(
        NAMES[name],
        "" if asked is None else f"≥ {asked} ×",
        f"{spread(ratios, '.2f')} ×; {statistics.median(speeds):,.0f} tokens/s there",
        f"eai-delphi 0.1.3: {steps}{records}; {n_tokens:,} tokens",
        None if asked is None else statistics.median(ratios) >= asked,
    )
