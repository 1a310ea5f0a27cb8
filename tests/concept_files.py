"""Files of directions as their publishers write them, one writer a format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

WIDTH = 6
VECTOR = np.array([1.5, -2, 3.25, 0, 1e-20, -7], dtype=np.float32)
ROWS = np.arange(5 * WIDTH, dtype=np.float32).reshape(5, WIDTH) + 1


def save_npz(path: Path, **arrays: Any) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def save_safetensors(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file({name: torch.as_tensor(value).clone() for name, value in tensors.items()}, path)


def save_gguf(path: Path, tensors: dict[str, Any], architecture: str = "controlvector", **strings: str) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(tensors))
    for name, text in strings.items():
        writer.add_string(name, text)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def both() -> dict[str, Any]:
    return {"direction.3": VECTOR, "direction.4": 2 * VECTOR}


WRITERS: dict[str, Callable[[Path], None]] = {
    "v.npz": lambda path: save_npz(path, **both()),
    "v.safetensors": lambda path: save_safetensors(path, both()),
    "v.pt": lambda path: torch.save({name: torch.tensor(value) for name, value in both().items()}, path),
    "v.pth": lambda path: torch.save({3: torch.tensor(VECTOR), 4: torch.tensor(2 * VECTOR)}, path),
    "v.gguf": lambda path: save_gguf(path, both()),
}
SINGLE: dict[str, Callable[[Path], None]] = {
    "v.npy": lambda path: np.save(path, VECTOR),
    "v.npz": lambda path: save_npz(path, vector=VECTOR),
    "v.safetensors": lambda path: save_safetensors(path, {"vector": VECTOR}),
    "v.pt": lambda path: torch.save(torch.tensor(VECTOR), path),
    "v.bin": lambda path: torch.save(torch.tensor(VECTOR)[None], path),
}
