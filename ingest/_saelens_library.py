"""What only sae-lens itself can read: its old configs, its training checkpoints and its registry of published SAEs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from featuredb.errors import BadInput, NotFound, PluginFailed, nearest
from featuredb_ingest._saelens_record import record

if TYPE_CHECKING:
    import torch

    from featuredb.dictionary import Dictionary

Loaded = tuple[dict[str, Any], dict[str, "torch.Tensor"]]
Result = TypeVar("Result")

_REFUSED = {
    "temporal": "its encode attends to the tokens before, and featuredb encodes one activation vector at a time",
    "mntss_clt_layer_transcoder": "sae-lens reads cross-layer transcoders without thresholds and sums their decoders",
}
"""Converters of the registry whose result would be wrong, and why."""


def through_sae_lens(folder: Path, *, training: bool) -> Loaded:
    """An inference config and state dict of a folder, read by sae-lens in float32.

    training: the folder is a training checkpoint: the scale of its activations and its decoder's norms are folded in,
    as sae-lens folds them when training ends. Raises BadInput where sae-lens cannot read the folder.
    """
    import torch
    from sae_lens import SAE, TrainingSAE

    def load() -> Loaded:
        if not training:
            sae = SAE.load_from_disk(folder, dtype="float32")
            return _inference(sae)
        sae = TrainingSAE.load_from_disk(folder, dtype="float32")
        _fold_activation_scale(sae, folder)
        state = sae.state_dict()
        sae.process_state_dict_for_saving_inference(state)
        return sae.cfg.get_inference_sae_cfg_dict(), _detached(state)

    try:
        with torch.no_grad():
            return _quietly(load)
    except (KeyError, ValueError, RuntimeError, TypeError, AssertionError) as error:
        raise BadInput(
            f"{folder}: sae-lens cannot read it: {type(error).__name__}: {error}",
            hint="open it in the sae-lens that wrote it, and save it again with sae-lens 6",
        ) from error


def published(source: str, name: str, plugin: str) -> Dictionary:
    """The dictionary that sae-lens publishes as RELEASE/SAE_ID, or that lies at OWNER/REPOSITORY/FOLDER on the Hub.

    Raises NotFound with the nearest names, read from the registry without any network; PluginFailed when the files
    are not here and cannot be fetched.
    """
    release, sae_id, entry = _find(source)
    reason = _REFUSED.get(str(entry.get("conversion_func")))
    if reason:
        raise BadInput(f"{source} cannot be used: {reason}")
    cfg, tensors = _fetch(release, sae_id)
    if entry.get("model"):
        cfg["metadata"] = {"model_name": entry["model"]} | _said(cfg.get("metadata") or {})
    return record(name, cfg, tensors, source=f"{release}/{sae_id}", plugin=plugin, file=source)


def _find(source: str) -> tuple[str, str, Mapping[str, Any]]:
    """Release, id and the registry's entry, empty for a repository it does not list."""
    releases = registry()
    release, _, sae_id = source.partition("/")
    if release not in releases:
        close = nearest(release, releases)
        parts = source.split("/", 2)
        if close is None and len(parts) == 3:
            return "/".join(parts[:2]), parts[2], {}
        raise NotFound(
            f"no folder {source!r}, and sae-lens has no release {release!r}",
            hint=close or "a release is written RELEASE/SAE_ID, as in gpt2-small-res-jb/blocks.8.hook_resid_pre",
        )
    ids = [str(sae["id"]) for sae in releases[release]["saes"]]
    if sae_id not in ids:
        few = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
        raise NotFound(
            f"release {release!r} has no SAE {sae_id!r}", hint=nearest(sae_id, ids, otherwise=f"it has {few}")
        )
    return release, sae_id, releases[release]


@cache
def registry() -> dict[str, dict[str, Any]]:
    """sae-lens's list of published SAEs, read from its package without importing it."""
    import yaml  # type: ignore[import-untyped]

    spec = find_spec("sae_lens")
    if spec is None or spec.origin is None:
        raise PluginFailed("sae-lens is not installed", hint="pip install sae-lens")
    with (Path(spec.origin).parent / "pretrained_saes.yaml").open(encoding="utf-8") as file:
        # libyaml reads it five times faster, and is not everywhere.
        read: dict[str, dict[str, Any]] = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return read


def _fetch(release: str, sae_id: str) -> Loaded:
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from sae_lens import SAE

    what = f"{release}/{sae_id}"
    try:
        return _quietly(lambda: _inference(SAE.from_pretrained(release, sae_id, dtype="float32")))
    except GatedRepoError as error:
        raise PluginFailed(f"{what} is gated", hint="accept its terms on the Hub, then `hf auth login`") from error
    except LocalEntryNotFoundError as error:
        raise PluginFailed(f"{what} is not on this machine and cannot be fetched: {error}", hint=_OFFLINE) from error
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise NotFound(f"{what} is not on the Hub: {error}", hint="`saelens:FOLDER` reads one on disk") from error
    except OSError as error:  # requests, httpx and the Hub's own errors all are
        raise PluginFailed(f"{what} cannot be fetched: {error}", hint=_OFFLINE) from error


_OFFLINE = "go online once (and unset HF_HUB_OFFLINE), or download it elsewhere and name the folder"


def _fold_activation_scale(sae: Any, folder: Path) -> None:
    from sae_lens.training.activation_scaler import ActivationScaler

    scaler = ActivationScaler()
    saved = folder / "activation_scaler.json"
    if saved.is_file():
        scaler.load(saved)
    if scaler.scaling_factor is not None:
        sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
    if scaler.whitening is not None:
        sae.fold_activation_whitening(scaler.whitening.mean, scaler.whitening.matrix, scaler.whitening.inverse_matrix)
    if sae.cfg.normalize_activations in ("expected_average_only_in", "covariance_whitening"):
        raise BadInput(
            f"{folder} was trained on scaled activations, and the scale is not there",
            hint=f"copy {saved.name} from where the checkpoint was written",
        )


def _inference(sae: Any) -> Loaded:
    return sae.cfg.to_dict(), _detached(sae.state_dict())


def _detached(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in state.items()}


def _said(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if value is not None}


def _quietly(work: Callable[[], Result]) -> Result:
    """The work's result, without sae-lens's advice on how to load the model in TransformerLens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()
