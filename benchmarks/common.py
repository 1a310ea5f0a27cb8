"""What every figure needs: its record, a place to work, the machine it was taken on, and ratios taken in pairs."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("featuredb", "torch", "transformers", "duckdb", "faiss-cpu", "numpy", "sae-lens")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    asked: str
    """What it has to be; empty for a figure that stands beside another to explain it."""
    measured: str
    how: str
    met: bool | None = None
    """Whether it is what it has to be; None where nothing was asked."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the figures are taken, and whether in earnest."""

    folder: Path
    """Empty at the beginning; figures share models and stores in it."""
    quick: bool
    """Tiny sizes, to see that every figure can be taken; the numbers mean nothing."""
    details: dict[str, str]
    """Tables that go below the figures, by their heading."""

    def choose(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def say(self, text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """The median, and the least and the largest where there are several."""
    median = format(statistics.median(values), form)
    if len(values) < 2:
        return median
    return f"{median} ({min(values):{form}} to {max(values):{form}})"


def run_measured(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak MiB of a process that must succeed.

    A small process starts it and asks for its peak: one that is started from here would count our own memory as its
    peak, because Linux carries the figure over from the process that forks.
    """
    script = ROOT / "benchmarks" / "peak_memory.py"
    done = subprocess.run(
        [sys.executable, "-S", str(script), *command],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if answer["status"]:
        raise RuntimeError(f"{' '.join(command)} ended with status {answer['status']}")
    return answer["seconds"], answer["peak_kib"] / 1024


def featuredb_command() -> str:
    """The `featuredb` that is installed beside the Python that runs this."""
    return str(Path(sys.executable).with_name("featuredb"))


def machine() -> list[str]:
    """What the figures depend on, a line each."""
    import torch

    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    return [
        f"processor: {_processor()}, {os.cpu_count()} cores, torch on {torch.get_num_threads()} threads",
        f"memory: {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        f"system: {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        f"libraries: {versions}",
    ]


def today() -> str:
    return date.today().isoformat()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
