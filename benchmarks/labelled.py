"""The stores that figures of labels and audits are taken on: the demo's, and one of all-MiniLM-L6-v2, both labeled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.common import Bench, featuredb_command
from benchmarks.demo import demo_store

TITLES = {"demo": "the demo", "minilm": "all-MiniLM-L6-v2"}
"""Dictionaries and what to call them."""


def labelled(bench: Bench, dictionary: str) -> Path:
    """A copy of the dictionary's store with labels, made where no other figure has yet."""
    store = bench.folder / f"{dictionary}-labelled.fdb"
    if not store.exists():
        shutil.copytree(_plain(bench, dictionary), store)
        command = [featuredb_command(), "label", "make", dictionary, "--quiet", "--db", str(store)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return store


def _plain(bench: Bench, dictionary: str) -> Path:
    if dictionary == "demo":
        return demo_store(bench)
    from featuredb.testing.truth.minilm import QUICK, Size, minilm_store

    return minilm_store(bench.folder / "minilm.fdb", QUICK if bench.quick else Size())
