"""Where an ingest spends its time: seconds by what was being done, each second counted once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from typing import Any

STAGES = {
    "forward pass": ["model.run:Model.run"],
    "encode: product and activation function": ["capture.encode:SparseEncoder.encode"],
    "tokenize, pack, gather rows": ["capture.loop:CaptureLoop._next_block"],
    "sort the firings": ["capture.firings:Firings.sort", "capture.firings:Visits.of"],
    "statistics": ["capture.statistics:FeatureStatistics.add"],
    "top and sampled contexts": [
        "capture.kept:KeptContexts.add",
        "capture.state:strongest_first",
        "capture.state:hash_order",
    ],
    "response directions": ["capture.moments:CrossMoments.add", "capture.moments:CrossMoments.response"],
    "hook mean and covariance": ["capture.moments:HookMoments.add"],
    "panel": ["capture.panel:PanelFirings.add", "capture.panel:PanelContexts.add"],
    "context spool and digest": ["capture.spool:ContextSpool.add", "capture.loop:chain_digest"],
    "checkpoints": ["capture.state:CaptureState.save"],
    "promoted tokens": ["capture.finish:output_tokens"],
    "write segments": [
        "capture.finish:kept_contexts",
        "capture.finish:write_contexts",
        "capture.finish:write_dictionary",
    ],
    "write vectors and index": ["capture.finish:save_file", "dictionary:Dictionary.save", "capture.finish:write_index"],
    "checksums": ["capture.finish:describe_file"],
    "move into place and commit": ["capture.finish:rename_into_place", "capture.finish:commit_run"],
}
"""What is timed: a function of the engine, as the module that looks it up knows it."""


class Stopwatch:
    """Seconds of each stage, less what the stages inside it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.started: float | None = None
        """When the first forward pass began."""
        self._inner = [0.0]

    @contextmanager
    def running(self) -> Iterator[Stopwatch]:
        """Times the engine's functions for as long as the block runs."""
        replaced: list[tuple[Any, str, Any]] = []
        try:
            for stage, places in STAGES.items():
                for place in places:
                    owner, name = _find(place)
                    original = vars(owner)[name]
                    replaced.append((owner, name, original))
                    setattr(owner, name, self._timed(stage, original))
            yield self
        finally:
            for owner, name, original in replaced:
                setattr(owner, name, original)

    def _timed(self, stage: str, original: Any) -> Any:
        work: Callable[..., Any] = original.__func__ if isinstance(original, staticmethod) else original

        @wraps(work)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            if self.started is None and stage == "forward pass":
                self.started = start
            self._inner.append(0.0)
            try:
                return work(*args, **kwargs)
            finally:
                whole = time.perf_counter() - start
                self.seconds[stage] += whole - self._inner.pop()
                self._inner[-1] += whole

        return staticmethod(wrapper) if isinstance(original, staticmethod) else wrapper


def _find(place: str) -> tuple[Any, str]:
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = import_module(f"featuredb.{module}")
    for part in owners:
        owner = getattr(owner, part)
    return owner, name
