"""Dictionaries that sae-lens wrote or knows: a folder, a folder of folders, or RELEASE/SAE_ID of its registry.

A folder of sae-lens 6 is read here, without the seconds that importing sae-lens takes; older folders, training
checkpoints and published dictionaries go through sae-lens itself. Nothing pickled is ever opened.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featuredb.errors import BadInput, NotFound
from featuredb_ingest._saelens_library import published, through_sae_lens
from featuredb_ingest._saelens_record import ARCHITECTURES, record

if TYPE_CHECKING:
    import torch

    from featuredb.dictionary import Dictionary

CFG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"

_PICKLED = (".pt", ".pth", ".pkl", ".bin", ".ckpt")
_TRAINING_ONLY = ("batchtopk", "matryoshka_batchtopk")
_DEPTH = 3
"""How many levels below a folder other folders of dictionaries are looked for."""
_SAYS_LITTLE = re.compile(r"(blocks|layers?|h|step|final|checkpoint|trainer|sae|dictionary|inference)?[._-]?\d*(\..*)?")


class SaeLens:
    """Reads dictionaries in sae-lens's format, from a folder or from its registry of published ones."""

    name = "saelens.v1"

    def recognises(self, source: str) -> bool:
        path = Path(source).expanduser()
        return bool(source) and path.is_dir() and bool(_folders(path))

    def load(self, source: str) -> list[Dictionary]:
        from featuredb.dictionary import nearest_sibling

        path = Path(source).expanduser()
        if path.is_file():
            path = _folder_of(path)
        if not source or not path.is_dir():
            if not source or _looks_like_a_path(source):
                raise NotFound(f"no folder {source!r}", hint=nearest_sibling(path))
            return [published(source, _slug(source), self.name)]
        folders = _folders(path)
        if not folders:
            _refuse_pickles(path)
            raise BadInput(f"{path} has no {CFG}", hint="sae-lens keeps a dictionary as cfg.json beside its weights")
        return [self._folder(folder, _name(folder, path)) for folder in folders]

    def _folder(self, folder: Path, name: str) -> Dictionary:
        cfg = _read_cfg(folder)
        tensors = _read_weights(folder)
        architecture = cfg.get("architecture")
        if architecture in _TRAINING_ONLY or "decoder_init_norm" in cfg:
            cfg, tensors = through_sae_lens(folder, training=True)
        elif _major_version(cfg) < 6 or (architecture not in ARCHITECTURES and architecture != "temporal"):
            cfg, tensors = through_sae_lens(folder, training=False)
        return record(name, cfg, tensors, source=str(folder), plugin=self.name, file=folder / WEIGHTS)


def _folders(path: Path, depth: int = _DEPTH) -> list[Path]:
    if (path / CFG).is_file() and not (path / "sae.safetensors").is_file():
        # sae.safetensors beside cfg.json is another library's format.
        return [path]
    return list(_below(path, depth))


def _below(path: Path, depth: int) -> list[Path]:
    found: list[Path] = []
    if depth == 0:
        return found
    for entry in sorted(path.iterdir()):
        if not entry.is_dir() or entry.name.startswith(".") or not os.access(entry, os.R_OK | os.X_OK):
            continue
        if (entry / CFG).is_file() and (entry / WEIGHTS).is_file():
            found.append(entry)
        else:
            found += _below(entry, depth - 1)
    return found


def _folder_of(file: Path) -> Path:
    if file.name in (CFG, WEIGHTS):
        return file.parent
    if file.suffix in _PICKLED:
        raise _pickled(file)
    raise BadInput(f"{file} is not a folder that sae-lens wrote", hint=f"name the folder that holds {CFG}")


def _refuse_pickles(folder: Path) -> None:
    # A checkpoint's trainer_state.pt is not the dictionary, and is not read either.
    held = sorted(file for file in folder.iterdir() if file.suffix in _PICKLED and file.name != "trainer_state.pt")
    if held:
        raise _pickled(held[0])


def _pickled(file: Path) -> BadInput:
    return BadInput(
        f"{file} is pickled and could run code, so it was not opened",
        hint=f"convert it to {WEIGHTS}, with safetensors.torch.save_file",
    )


def _read_cfg(folder: Path) -> dict[str, Any]:
    file = folder / CFG
    try:
        cfg = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{file} is not JSON: {error}") from error
    if not isinstance(cfg, dict):
        raise BadInput(f"{file} holds a {type(cfg).__name__}, not an object")
    return cfg


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    file = folder / WEIGHTS
    if not file.is_file():
        _refuse_pickles(folder)
        raise BadInput(f"{folder} has no {WEIGHTS}", hint=f"it holds {', '.join(sorted(_names(folder)))}")
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a dict
    except SafetensorError as error:
        raise BadInput(f"{file} is not a whole safetensors file: {error}", hint="copy or download it again") from error


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def _major_version(cfg: Mapping[str, Any]) -> int:
    """sae-lens's major version that wrote a config; 0 where it does not say, as files of old do not."""
    metadata = cfg.get("metadata")
    said = cfg.get("sae_lens_version") or (metadata.get("sae_lens_version") if isinstance(metadata, dict) else None)
    found = re.match(r"\d+", str(said or ""))
    return int(found[0]) if found else 0


def _looks_like_a_path(source: str) -> bool:
    if source.startswith(("/", "./", "../", "~")) or "\\" in source:
        return True
    first = Path(source).parts[:1]
    return bool(first) and Path(*first).exists()


def _name(folder: Path, root: Path) -> str:
    """A readable name, the same every time: the folder's own, with those above it where that alone says little."""
    folder, root = folder.resolve(), root.resolve()
    parts = folder.relative_to(root).parts or (folder.name,)
    if folder == root and _SAYS_LITTLE.fullmatch(folder.name) and folder.parent.name:
        parts = (folder.parent.name, folder.name)
    return _slug("-".join(parts))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:120] or "dictionary"
