"""A sae-lens config and its tensors as one of our records. Pure: no file is opened and sae-lens is not imported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featuredb.errors import BadInput
from featuredb.hooknames import canonical_hook, is_canonical

if TYPE_CHECKING:
    import torch

    from featuredb.activation_functions import Activation
    from featuredb.dictionary import Dictionary, InputNorm, TrainedOn

_AFFINE = ("W_enc", "b_enc", "W_dec", "b_dec")
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "standard": _AFFINE,
    "topk": _AFFINE,
    "abstopk": _AFFINE,
    "jumprelu": (*_AFFINE, "threshold"),
    "gated": ("W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec"),
    "matching_pursuit": ("W_dec", "b_dec"),
    "transcoder": _AFFINE,
    "skip_transcoder": (*_AFFINE, "W_skip"),
    "jumprelu_transcoder": (*_AFFINE, "threshold"),
    "jumprelu_skip_transcoder": (*_AFFINE, "threshold", "W_skip"),
}
"""Every architecture sae-lens 6 saves whose encode looks at one row alone, and the tensors it has."""

_NORMS = {
    "none": "none",
    # Folded into the weights when training ends. A file where it was not is read raw, as sae-lens reads it.
    "expected_average_only_in": "none",
    "covariance_whitening": "none",
    "constant_norm_rescale": "l2_to_sqrt_d",
    "layer_norm": "layer_norm",
}


def record(
    name: str,
    cfg: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    *,
    source: str,
    plugin: str,
    file: Path | str,
) -> Dictionary:
    """The dictionary of a sae-lens 6 inference config and its state dict, in float32.

    file: where the tensors came from, for errors. Raises BadInput naming it and the tensor.
    """
    from featuredb.dictionary import Dictionary

    architecture = _architecture(cfg, file)
    arrays = _arrays(architecture, cfg, tensors, file)
    transcoder = "transcoder" in architecture
    tied = architecture == "matching_pursuit"
    subtracted = not transcoder and bool(cfg.get("apply_b_dec_to_input", True))
    b_dec = arrays["b_dec"]
    hook, hook_out = _hooks(cfg, transcoder=transcoder)
    return Dictionary(
        name=name,
        kind="transcoder" if transcoder else "sae",
        hook=hook,
        hooks_out=(hook_out,),
        w_enc=arrays.get("W_enc"),
        # Gated has its biases in the activation; matching pursuit has none.
        b_enc=arrays.get("b_enc", b_dec.new_zeros(arrays["W_dec"].shape[0])),
        w_dec=arrays["W_dec"][:, None],
        # Matching pursuit adds b_dec to its output only where it took it from its input.
        b_dec=(b_dec.new_zeros(b_dec.shape) if tied and not subtracted else b_dec)[None],
        w_skip=arrays["W_skip"].T.contiguous() if "W_skip" in arrays else None,
        activation=_activation(architecture, cfg, arrays),
        subtract_b_dec=subtracted,
        input_norm=_input_norm(cfg, file, undone=not transcoder),
        select_by_decoder_norm=bool(cfg.get("rescale_acts_by_decoder_norm", False)),
        trained=_trained_on(cfg),
        source=source,
        plugin=plugin,
        extra=_extra(architecture, cfg),
    )


def _architecture(cfg: Mapping[str, Any], file: Path | str) -> str:
    architecture = str(cfg.get("architecture"))
    if architecture == "temporal":
        raise BadInput(
            f"{file} is a temporal SAE, whose encode attends to the tokens before",
            hint="featuredb keeps dictionaries that encode one activation vector at a time",
        )
    if architecture not in ARCHITECTURES:
        raise BadInput(f"{file} has architecture {architecture!r}", hint=f"read are {', '.join(ARCHITECTURES)}")
    if "transcoder" in architecture and cfg.get("apply_b_dec_to_input"):
        raise BadInput(f"{file}: a transcoder cannot subtract b_dec from its input", hint="set apply_b_dec_to_input")
    return architecture


def _arrays(
    architecture: str, cfg: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], file: Path | str
) -> dict[str, torch.Tensor]:
    import torch

    names = ARCHITECTURES[architecture]
    held = dict(tensors)
    scaling = held.pop("scaling_factor", None)
    if scaling is not None and not bool((scaling == 1).all()):
        raise BadInput(f"{file} has a finetuning scaling_factor", hint="sae-lens 6 does not read such files either")
    for name in sorted(set(names) ^ set(held)):
        if name in names:
            raise BadInput(f"{file} has no tensor {name!r}", hint=f"it has {', '.join(sorted(held))}")
        raise BadInput(f"{file} has a tensor {name!r}, which no {architecture} dictionary has")
    for name, shape in _shapes(cfg, file).items():
        found = tuple(held[name].shape) if name in held else shape
        if found != shape:
            turned = (
                "is it transposed?" if found == shape[::-1] else "the config and the weights do not belong together"
            )
            raise BadInput(f"{file}: {name} has shape {found}, and {shape} is what its config says", hint=turned)
    return {name: value.to(torch.float32) for name, value in held.items()}


def _shapes(cfg: Mapping[str, Any], file: Path | str) -> dict[str, tuple[int, ...]]:
    try:
        d_in, n_features = int(cfg["d_in"]), int(cfg["d_sae"])
        d_out = int(cfg["d_out"]) if "transcoder" in str(cfg["architecture"]) else d_in
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{file}: its config has no width {error}", hint="cfg.json must give d_in and d_sae") from error
    vectors = dict.fromkeys(("b_enc", "threshold", "b_gate", "b_mag", "r_mag"), (n_features,))
    return vectors | {
        "W_enc": (d_in, n_features),
        "W_dec": (n_features, d_out),
        "b_dec": (d_out,),
        "W_skip": (d_out, d_in),
    }


def _activation(architecture: str, cfg: Mapping[str, Any], arrays: Mapping[str, torch.Tensor]) -> Activation:
    from featuredb.activation_functions import Activation

    if architecture in ("topk", "abstopk"):
        # 100 is sae-lens's default for a config that does not say.
        return Activation("abstopk" if architecture == "abstopk" else "topk", k=int(cfg.get("k", 100)))
    if architecture == "gated":
        return Activation("gated", b_gate=arrays["b_gate"], b_mag=arrays["b_mag"], r_mag=arrays["r_mag"])
    if architecture == "matching_pursuit":
        return Activation(
            "matching_pursuit",
            residual_threshold=float(cfg.get("residual_threshold", 1e-2)),
            max_iterations=cfg.get("max_iterations"),
            stop_on_duplicate_support=bool(cfg.get("stop_on_duplicate_support", True)),
        )
    if "threshold" in arrays:
        return Activation("jumprelu", threshold=arrays["threshold"])
    return Activation("relu")


def _input_norm(cfg: Mapping[str, Any], file: Path | str, *, undone: bool) -> InputNorm:
    from featuredb.dictionary import InputNorm

    said = cfg.get("normalize_activations", "none")
    match _NORMS.get(str(said)):
        case "none":
            return InputNorm()
        case "l2_to_sqrt_d":
            return InputNorm("l2_to_sqrt_d", undone=undone)
        case "layer_norm":
            return InputNorm("layer_norm", undone=undone)
    raise BadInput(f"{file}: normalize_activations is {said!r}", hint=f"read are {', '.join(_NORMS)}")


def _hooks(cfg: Mapping[str, Any], *, transcoder: bool) -> tuple[str, str]:
    """Where it reads and where it writes; "" where the config does not say."""
    metadata = cfg.get("metadata") or {}
    hook = _hook(metadata.get("hf_hook_name"), metadata.get("hook_name"))
    if not transcoder:
        return hook, hook
    return hook, _hook(metadata.get("hf_hook_name_out"), metadata.get("hook_name_out"))


def _hook(module: str | None, lens: str | None) -> str:
    # The module path is the publisher's word on which tensor it was; the TransformerLens name may be a stand-in.
    for said in (module, lens):
        if said and is_canonical(found := canonical_hook(said)):
            return found
    return lens or module or ""


def _trained_on(cfg: Mapping[str, Any]) -> TrainedOn:
    from featuredb.dictionary import TrainedOn

    metadata = cfg.get("metadata") or {}
    length, bos = metadata.get("context_size"), metadata.get("prepend_bos")
    return TrainedOn(
        model=metadata.get("model_name"),
        context_length=None if length is None else int(length),
        prepend_bos=None if bos is None else bool(bos),
        dtype=cfg.get("dtype"),
        corpus=metadata.get("dataset_path"),
    )


def _extra(architecture: str, cfg: Mapping[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {"architecture": architecture, "metadata": cfg.get("metadata") or {}}
    for key in ("normalize_activations", "reshape_activations"):
        if cfg.get(key, "none") != "none":
            extra[key] = cfg[key]
    # Through JSON once, so that what a library left in its metadata can be saved again.
    plain: dict[str, Any] = json.loads(json.dumps(extra, default=str))
    return plain
