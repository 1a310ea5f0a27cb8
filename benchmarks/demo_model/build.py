"""Everything between a trained model and what the package ships: files, figures, the dictionary, the cards.

    python -m benchmarks.demo_model.build OUT [--seed 0] [--steps model,dictionary,cards]

OUT: where train.py left the model; the dictionary is trained in OUT/dictionary, where an interrupted training goes on.

1. model: copy weights, config and tokenizer to featuredb/demo/featuredb-demo; measure it beside n-grams.
2. dictionary: train it on the copied model, measure it, copy it to featuredb/demo/dictionary.
3. cards: write each folder's README.md from its figures.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.demo_model.card import dictionary_card, model_card
from benchmarks.demo_model.evaluate import evaluate
from benchmarks.demo_model.train import BATCH_ROWS, CONTEXT
from benchmarks.demo_model.train_dictionary import train_and_measure
from featuredb.demo.tour import MODEL

PACKAGE = Path(__file__).resolve().parents[2] / "featuredb" / "demo"
STEPS = ("model", "dictionary", "cards")
FIGURES = "figures.json"
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
DICTIONARY_FILES = ("cfg.json", "sae_weights.safetensors")


def build_model(out: Path, folder: Path, seed: int) -> None:
    """Copies and measures the model."""
    _copy(out, folder, MODEL_FILES)
    n_steps = int(torch.load(out / "train.pt", weights_only=True)["step"])
    tokens_seen = n_steps * BATCH_ROWS * CONTEXT
    _write(
        folder / FIGURES,
        {
            "python": platform.python_version(),
            "seed": seed,
            "n_steps": n_steps,
            "tokens_seen": tokens_seen,
            "parameters": _n_parameters(folder / "model.safetensors"),
            **evaluate(folder),
        },
    )


def build_dictionary(out: Path, model: Path, folder: Path) -> None:
    """Trains, measures and copies the dictionary."""
    figures = train_and_measure(model, out / "dictionary")
    _copy(out / "dictionary", folder, DICTIONARY_FILES)
    _write(folder / FIGURES, {"python": platform.python_version(), **figures})


def build_cards(model: Path, dictionary: Path) -> None:
    """Writes both cards."""
    for folder, card in ((model, model_card), (dictionary, dictionary_card)):
        (folder / "README.md").write_text(card(json.loads((folder / FIGURES).read_text())), encoding="utf-8")


def _copy(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, folder / name)
        (folder / name).chmod(0o644)  # safetensors writes files that only their owner may read


def _n_parameters(weights: Path) -> int:
    return sum(tensor.numel() for tensor in load_file(weights).values())


def _write(path: Path, figures: dict[str, Any]) -> None:
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="what train.py was given")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--package", type=Path, default=PACKAGE)
    args = parser.parse_args()
    steps = args.steps.split(",")
    model, dictionary = args.package / MODEL, args.package / "dictionary"
    if "model" in steps:
        build_model(args.out, model, args.seed)
    if "dictionary" in steps:
        build_dictionary(args.out, model, dictionary)
    if "cards" in steps:
        build_cards(model, dictionary)


if __name__ == "__main__":
    main()
