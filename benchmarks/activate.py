"""How much longer `db.activate` of a text takes, in a warm process, than the model and the encoder alone.

The floor is what nobody can do without: transformers' own forward pass of the text's tokens, stopped at the hook, and
the encoder on what came out. Text to tokens, figures, labels and rows are on our side only. Both take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Bench, Figure, spread, timed

ASKED = 1.5
N_TOKENS = 100
N_TEXTS = 32
N_WARM = 5
TEXT = (
    "class Reader:\n    def __init__(self, path, encoding='utf-8'):\n        self.path = path\n\n"
    "    def read(self):\n        if not os.path.exists(self.path):\n"
    "            raise FileNotFoundError('no such file: %r' % self.path)\n"
    "        with open(self.path, encoding=self.encoding) as file:\n            return file.read()\n\n"
    "The documentation of Python says THAT a file should be closed as soon as it is no longer needed. "
)


def measure(bench: Bench) -> list[Figure]:
    from featuredb.database import open as open_store

    with open_store(_store(bench)) as db:
        loaded = db._activator.open("demo")
        texts = _texts(loaded.model)
        figures = []
        for name, encode in (("", loaded.encoder.encode), (", encoding with sae-lens", _publisher())):
            ours, least = _in_turns(
                [db.activate, _floor(loaded, encode)], [texts[turn % N_TEXTS] for turn in range(bench.choose(400, 3))]
            )
            ratio = statistics.median(ours) / statistics.median(least)
            how = (
                f"a text of {N_TOKENS} tokens in a warm process, {spread(ours, '.1f')} ms; forward to the hook and "
                f"encode {spread(least, '.1f')} ms; {len(ours)} turns each, {N_TEXTS} texts, every feature labelled"
            )
            figures.append(Figure(f"activate{name}", f"≤ {ASKED} of the floor", f"{ratio:.2f}", how, ratio <= ASKED))
        together, singly = _in_turns(
            [db.activate, lambda many: [db.activate(each) for each in many]], [texts] * bench.choose(20, 1)
        )
    faster = statistics.median(singly) / statistics.median(together)
    how = f"{N_TEXTS} such texts in one call, {spread(together, '.0f')} ms; one by one {spread(singly, '.0f')} ms"
    return [*figures, Figure("activate, many texts", "", f"{faster:.2f} times as fast", how)]


def _texts(model: Any) -> list[str]:
    """Texts of N_TOKENS tokens each, no two alike."""
    texts = []
    for turn in range(N_TEXTS):
        words = (TEXT[turn * 7 :] + TEXT) * 2
        text = model.tokenizer.decode(model.encode_text(words)[:N_TOKENS])
        texts.append(text)
    return texts


def _store(bench: Bench) -> Path:
    """The demo's store, of fewer tokens, for a text's answer takes as long; and with a label on every feature."""
    from featuredb.database import open as open_store
    from featuredb.demo import run_demo

    path, labels = bench.folder / "activate.fdb", bench.folder / "labels.csv"
    seconds = timed(lambda: run_demo(path, train=False, progress=lambda _: None, n_tokens=bench.choose(50_000, 4_000)))
    with open_store(path) as db:
        (dictionary,) = db.ls("dictionaries")
        rows = (f"{dictionary.dictionary}/{index},number {index}" for index in range(dictionary.n_features))
        labels.write_text("\n".join(["feature,text", *rows]), encoding="utf-8")
        db.import_labels(labels)
    bench.say(f"store made in {seconds:.0f} s")
    return path


def _publisher() -> Callable[[Any], Any]:
    """The demo dictionary's own library encoding; dense."""
    from sae_lens import SAE

    from featuredb.demo.tour import dictionary_folder

    encode: Callable[[Any], Any] = SAE.load_from_disk(dictionary_folder(), device="cpu").encode
    return encode


def _floor(loaded: Any, encode: Callable[[Any], Any]) -> Callable[[str], object]:
    """transformers on the tokens of a text, stopped at the dictionary's hook, and `encode` on what is there."""
    import torch

    model = loaded.model
    point = model.hook_map.points[loaded.reading.hook]
    assert point.side == "output"
    rows = {text: torch.tensor([[model.bos_id, *model.encode_text(text).tolist()]]) for text in _texts(model)}
    found: list[Any] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        raise _Reached

    @torch.inference_mode()
    def run(text: str) -> object:
        found.clear()
        row = rows[text]
        handle = model.module.get_submodule(point.path).register_forward_hook(keep)
        try:
            model.module(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False)
        except _Reached:
            pass
        finally:
            handle.remove()
        return encode(found[0][0, 1:])

    return run


class _Reached(Exception):
    """Ends a forward pass at the hook."""


def _in_turns(works: Sequence[Callable[[Any], object]], given: Sequence[Any]) -> list[list[float]]:
    """Milliseconds of each work on each of what is given, in turns, after some that do not count."""
    spent: list[list[float]] = [[] for _ in works]
    for turn, each in enumerate([*given[:N_WARM], *given]):
        for work, mine in zip(works, spent, strict=True):
            start = time.perf_counter()
            work(each)
            taken = time.perf_counter() - start
            if turn >= min(N_WARM, len(given)):
                mine.append(1000 * taken)
    return spent
