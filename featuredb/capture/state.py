"""Everything a run knows after a whole number of blocks, and how it is written down and read back."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from featuredb.capture.firings import Firings
from featuredb.capture.kept import KeptContexts, hash_order, strongest_first
from featuredb.capture.moments import CrossMoments, HookMoments
from featuredb.capture.panel import PanelContexts, PanelFirings
from featuredb.capture.request import CaptureSettings
from featuredb.capture.spool import ContextSpool
from featuredb.capture.statistics import FeatureStatistics
from featuredb.errors import StoreUnusable

if TYPE_CHECKING:
    from featuredb.capture.contexts import Context

Arrays = dict[str, NDArray[np.generic]]


class FeatureReducers:
    """What is kept of one dictionary's features. Merging two gives what one pass over both texts would have given."""

    def __init__(self, shape: tuple[int, int], settings: CaptureSettings, panel: Path) -> None:
        """shape: (n_features, d_in). panel: a file of its own, which is created or gone on with."""
        n_features, width = shape
        self.settings = settings
        self.statistics = FeatureStatistics(n_features)
        self.top = KeptContexts(n_features, settings.n_examples)
        self.sample = KeptContexts(n_features, settings.n_samples)
        self.cross = CrossMoments(n_features, width)
        self.panel = PanelFirings(panel)

    def add(self, firings: Firings, centred: torch.Tensor, on_panel: NDArray[np.int64]) -> None:
        """centred: (n_rows, d_in) less the hook's shift. on_panel: contexts of this block that may be on the panel."""
        self.statistics.add(firings)
        self.top.add(firings, strongest_first(firings))
        self.sample.add(firings, hash_order(firings, self.settings.seed))
        self.cross.add(firings, centred)
        self.panel.add(firings, on_panel)

    def merge(self, other: FeatureReducers) -> None:
        self.statistics.merge(other.statistics)
        self.top.merge(other.top)
        self.sample.merge(other.sample)
        self.cross.merge(other.cross)
        self.panel.merge(other.panel)

    def arrays(self) -> Arrays:
        return {
            **_prefixed("statistics", self.statistics.arrays()),
            **_prefixed("top", self.top.arrays()),
            **_prefixed("sample", self.sample.arrays()),
            "cross/sums": self.cross.sums,
            "panel/ends": np.array(self.panel.ends, dtype=np.int64),
        }

    def load(self, arrays: Arrays) -> None:
        self.statistics.load(_under("statistics", arrays))
        self.top.load(_under("top", arrays))
        self.sample.load(_under("sample", arrays))
        self.cross.sums = np.asarray(arrays["cross/sums"], dtype=np.float32)
        self.panel.truncate([int(end) for end in arrays["panel/ends"]])


@dataclass
class CaptureState:
    """A run so far. The files it speaks of lie in `folder`; after a crash they may be longer than it says."""

    folder: Path
    reducers: list[FeatureReducers]
    """One for each dictionary."""
    panel: PanelContexts
    spool: ContextSpool
    hooks: dict[str, HookMoments] = field(default_factory=dict)
    n_contexts: int = 0
    n_tokens: int = 0
    batch_size: int = 1
    digest: str = ""
    """Of all contexts so far, so that going on with another text is noticed."""

    def save(self) -> None:
        """Writes the state whole or not at all."""
        arrays: Arrays = {"panel/context": self.panel.context}
        for index, reducers in enumerate(self.reducers):
            arrays |= _prefixed(f"dictionary{index}", reducers.arrays())
        for hook, moments in self.hooks.items():
            arrays |= _prefixed(f"hook/{hook}", moments.arrays())
        facts = {
            "n_contexts": self.n_contexts,
            "n_tokens": self.n_tokens,
            "batch_size": self.batch_size,
            "digest": self.digest,
            "sizes": self.spool.sizes(),
            "hooks": list(self.hooks),
        }
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
        temporary = self.folder / "state.tmp"
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def load(self) -> bool:
        """Takes up what `save` wrote; False where nothing was."""
        if not self.path.exists():
            return False
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            facts = json.loads(arrays["facts"].tobytes())
            for index, reducers in enumerate(self.reducers):
                reducers.load(_under(f"dictionary{index}", arrays))
            for hook in facts["hooks"]:
                self.hooks[hook] = HookMoments.from_arrays(_under(f"hook/{hook}", arrays))
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise StoreUnusable(
                f"{self.path} cannot be read: {error}", hint="begin the run anew with --fresh"
            ) from error
        self.panel.context = np.asarray(arrays["panel/context"], dtype=np.int64)
        self.spool.truncate(facts["sizes"])
        self.n_contexts, self.n_tokens = facts["n_contexts"], facts["n_tokens"]
        self.batch_size, self.digest = facts["batch_size"], facts["digest"]
        return True

    @property
    def path(self) -> Path:
        return self.folder / "state.npz"


def chain_digest(digest: str, contexts: list[Context]) -> str:
    """The digest of a text that grew by some contexts."""
    for context in contexts:
        digest = blake2b(digest.encode() + context.ids.astype("<i4").tobytes(), digest_size=16).hexdigest()
    return digest


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(prefix + "/")}
