"""What end-to-end tests ingest: a small text, dictionaries written by hand as sae-lens lays them out, a request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import torch

import featuredb
from featuredb.capture.request import CaptureSettings, CorpusRequest, IngestRequest, ModelRequest, PackingKind
from tests.tiny_models import WIDTH, save_tiny

N_LAYERS = 4
N_FEATURES = 48
CONTEXT_LENGTH = 48
SETTINGS = CaptureSettings(n_samples=16, n_panel=20, seed=7)
Tensors = dict[str, torch.Tensor]

_WORDS = "river stone lamp Door WINDOW seven 12 cat's sill; under over (between) x = y + z THE end. a an of"


def texts(n: int, seed: int = 0, longest: int = 60) -> list[str]:
    """n texts of 1 to `longest` words, no two alike, of one-byte characters and without line ends."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest, n)
    return [f"{i}: " + " ".join(rng.choice(_WORDS.split(), length)) for i, length in enumerate(lengths)]


def save_corpus(path: Path, documents: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    return path


def save_model(path: Path, **settings: Any) -> Path:
    return save_tiny(path, "gpt2", **{"num_hidden_layers": N_LAYERS} | settings)


def tensors(architecture: str, seed: int, n_features: int = N_FEATURES, width: int = WIDTH) -> Tensors:
    """Random weights of a sae-lens dictionary that fires on a part of its input; its last feature never does."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    made = {
        "W_enc": normal(width, n_features) / width**0.5,
        "b_enc": 0.3 * normal(n_features) - 0.5,
        "W_dec": normal(n_features, width),
        "b_dec": 0.2 * normal(width),
    }
    made["b_enc"][-1] = -1e4
    if architecture == "jumprelu":
        made["threshold"] = 0.2 + 0.3 * normal(n_features).abs()
    if architecture == "gated":
        del made["b_enc"]
        made |= {
            "b_gate": -0.5 + 0.1 * normal(n_features),
            "b_mag": normal(n_features),
            "r_mag": 0.1 * normal(n_features),
        }
        made["b_gate"][-1] = -1e4
    return made


def save_dictionary(folder: Path, architecture: str, layer: int, weights: Tensors, **settings: Any) -> Path:
    """A dictionary on the output of a layer, in the two files that sae-lens 6 writes."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    width, n_features = weights["W_enc"].shape
    metadata = {
        "sae_lens_version": "6.54.12",
        "hook_name": f"blocks.{layer}.hook_resid_post",
        "context_size": CONTEXT_LENGTH,
        "prepend_bos": True,
    }
    cfg = {
        "architecture": architecture,
        "d_in": width,
        "d_sae": n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    if architecture == "topk":
        cfg |= {"k": 5, "rescale_acts_by_decoder_norm": False}
    (folder / "cfg.json").write_text(json.dumps(cfg | settings))
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "sae_weights.safetensors")
    return folder


def random_dictionary(folder: Path, architecture: str = "topk", layer: int = 1, seed: int = 0) -> Path:
    return save_dictionary(folder, architecture, layer, tensors(architecture, seed))


def small_store(folder: Path, n_texts: int = 80, **changed: Any) -> Path:
    """A new store of one dictionary, `top`, of a tiny model run over n_texts texts. changed: of its `request`."""
    model, corpus = save_model(folder / "model"), save_corpus(folder / "corpus.jsonl", texts(n_texts))
    with featuredb.open(folder / "small.fdb", create=True) as db:
        db.ingest(request(model, [random_dictionary(folder / "top")], corpus, **changed))
    return folder / "small.fdb"


def save_parts(folder: Path) -> None:
    """A model, a dictionary and a corpus, where `command` looks for them."""
    save_model(folder / "model", num_hidden_layers=2)
    random_dictionary(folder / "top", "topk", 0)
    save_corpus(folder / "corpus.jsonl", texts(12))


def command(made: Path, **changed: Path | str | None) -> list[str]:
    """An ingest that works, with some of its options changed, added, or left out where None."""
    words = {"model": made / "model", "dictionary": made / "top", "corpus": made / "corpus.jsonl", "batch-size": "4"}
    words |= {name.replace("_", "-"): value for name, value in changed.items()}
    options = [word for name, value in words.items() if name != "model" and value for word in (f"--{name}", str(value))]
    return ["ingest", "model", str(words["model"]), *options]


def request(
    model: Path,
    dictionaries: Sequence[Path],
    corpus: Path,
    *,
    n_tokens: int | None = None,
    packing: PackingKind = "concat",
    batch_size: int | None = 4,
    settings: CaptureSettings = SETTINGS,
    **more: Any,
) -> IngestRequest:
    return IngestRequest(
        ModelRequest(str(model), device="cpu", batch_size=batch_size),
        tuple(map(str, dictionaries)),
        CorpusRequest(str(corpus), n_tokens, packing),
        settings,
        **more,
    )


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of a segment, in the order they lie in."""
    with duckdb.connect(str(path), read_only=True) as connection:
        names = [name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()]
        return {name: connection.execute(f'select * from "{name}"').fetchall() for name in sorted(names)}


def files_below(store: Path) -> list[str]:
    """Every file of a store but the catalog's own."""
    found = (path.relative_to(store).as_posix() for path in store.rglob("*") if not path.is_dir())
    return sorted(path for path in found if not path.startswith("catalog.sqlite"))


def assert_same_stores(found: Path, expected: Path) -> None:
    """The same files, the same rows in every segment, and every other file the same to the byte."""
    assert files_below(found) == files_below(expected)
    for name in files_below(expected):
        if name.endswith(".duckdb"):
            ours, theirs = tables(found / name), tables(expected / name)
            assert ours.keys() == theirs.keys()
            for table, rows in theirs.items():
                assert ours[table] == rows, f"{name}: {table}"
        else:
            assert (found / name).read_bytes() == (expected / name).read_bytes(), name
