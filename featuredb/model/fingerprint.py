"""What tells one model from another: a hash of its weights and config.

Rule: content alone counts. Paths, times, the device and the number type it is run in do not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from featuredb.errors import BadInput

_SHARDED = {"model.safetensors": "model.safetensors.index.json", "pytorch_model.bin": "pytorch_model.bin.index.json"}


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers would load from a folder, in its own order of preference.

    Raises BadInput where there are none, or where an index names one that is missing.
    """
    for whole, index in _SHARDED.items():
        if (folder / whole).is_file():
            return [folder / whole]
        if (folder / index).is_file():
            return _shards(folder / index)
    raise BadInput(f"{folder} holds no weights", hint="a model's folder holds model.safetensors or its shards")


def folder_fingerprint(folder: Path) -> str:
    """Hex SHA-256 over a model's config and weight files."""
    return _digest((file.name, file) for file in (folder / "config.json", *weight_files(folder)))


def hub_commit(model: str) -> str | None:
    """The commit of a Hub model that lies in the local cache, as it does once loaded; None where that is not known."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json")
    # .../snapshots/<commit>/config.json
    commit = Path(config).parent.name if isinstance(config, str) else ""
    return commit if re.fullmatch(r"[0-9a-f]{40}", commit) else None


def state_fingerprint(module: nn.Module, config: str) -> str:
    """Hex SHA-256 over a model in memory: its config as JSON, then every tensor of its state by name."""
    digest = hashlib.sha256(config.encode())
    for name, tensor in sorted(module.state_dict().items()):
        flat = tensor.detach().contiguous().cpu().reshape(-1)
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{index} is not an index of weight files", hint="download it again") from error
    missing = [name for name in names if not (index.parent / str(name)).is_file()]
    if missing:
        raise BadInput(f"{index.parent} has no {missing[0]}, which {index.name} names", hint="download it again")
    return [index, *(index.parent / str(name) for name in names)]


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in files:
        with file.open("rb") as content:
            digest.update(f"{name}:{hashlib.file_digest(content, 'sha256').hexdigest()};".encode())
    return digest.hexdigest()
