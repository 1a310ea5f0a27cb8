"""Models from a folder, the Hub or memory, checked before anything relies on them.

Rule: whatever transformers says of a model that cannot be used leaves here as BadInput or NotFound, in one line.
"""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from torch import nn

from featuredb.errors import BadInput, FeatureDBError, NotFound, nearest
from featuredb.model.fingerprint import folder_fingerprint, hub_commit, state_fingerprint, weight_files
from featuredb.model.hooks import HookMap, find_hooks
from featuredb.model.run import Model, is_out_of_memory, read

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
_DEVICES = ("cpu", "cuda", "mps")
_HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
# Heads that stand beside the stream: their weights may be missing, for no hook and no logit depends on them.
_ASIDE = re.compile(r"pooler|contact_head|position_ids|inv_freq")
_REFUSALS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    SafetensorError,
    pickle.UnpicklingError,
)

Loaded = TypeVar("Loaded")


def load_model(source: str, *, device: str = "auto", dtype: str = "auto", trust_remote_code: bool = False) -> Model:
    """The model in a folder, or of a Hugging Face id, ready to run.

    device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1" or "mps".
    dtype: "auto" (float32 on the CPU, the checkpoint's own elsewhere), or float32, bfloat16, float16.
    trust_remote_code: run Python that comes with the model.
    Raises NotFound where there is no such model, BadInput where it cannot be used.
    """
    where, number = _device(device), _dtype(dtype, device)
    folder = _local_folder(source)
    with _quiet(bars=folder is None and sys.stderr.isatty()):
        config = _load(source, "config", lambda: _auto("AutoConfig", source, trust_remote_code))
        auto = _auto_class(config)
        _check_structure(auto, config, trust_remote_code)
        tokenizer = _load(source, "tokenizer", lambda: _auto("AutoTokenizer", source, trust_remote_code))
        if folder is not None:
            weight_files(folder)  # says which is missing, where transformers would only say that some are
        module = _load(source, "weights", lambda: _weights(auto, source, config, number, trust_remote_code))
        fingerprint = hub_commit(source) if folder is None else folder_fingerprint(folder)
        module = module.to(where)
        name = source if folder is None else folder.resolve().name
        return _model(module, tokenizer, name=name, source=source, fingerprint=fingerprint)


def model_from(hf_model: nn.Module, tokenizer: Any, name: str) -> Model:
    """A transformers model that is already in memory, where it is and as it is; it is put into evaluation mode.

    Raises BadInput where its blocks hold no attention and MLP.
    """
    with _quiet(bars=False):
        return _model(hf_model, tokenizer, name=name, source=name, fingerprint=None)


def _model(module: nn.Module, tokenizer: Any, *, name: str, source: str, fingerprint: str | None) -> Model:
    module.eval()
    config = cast(Any, module).config
    text = config.get_text_config()
    hook_map = find_hooks(module, _n_layers(config))
    embedding = cast(nn.Embedding, cast(Any, module).get_input_embeddings())
    weight = embedding.weight
    return Model(
        name=name,
        source=source,
        fingerprint=fingerprint or state_fingerprint(module, config.to_json_string(use_diff=False)),
        architecture=type(module).__name__,
        n_layers=hook_map.n_layers,
        d_model=int(text.hidden_size),
        device=weight.device,
        dtype=weight.dtype,
        max_length=_max_length(text, tokenizer),
        vocab_size=weight.shape[0],
        module=module,
        tokenizer=tokenizer,
        hook_map=_checked_branches(module, hook_map, weight.device),
    )


@torch.inference_mode()
def _checked_branches(module: nn.Module, hook_map: HookMap, device: torch.device) -> HookMap:
    """The map, without attn_out and mlp_out where these prove not to be what the first block adds to the stream.

    Some architectures scale their branches first (Granite), or normalise after adding (DistilBERT); a wrong tensor
    under a right name is worse than none. BERT's order is known from its modules, and its sum is not the stream.
    """
    if hook_map.post_norm:
        return hook_map
    kinds = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    points = [hook_map.points[f"layers.0.{kind}"] for kind in kinds]
    ids = torch.arange(4, device=device)[None]
    found = read(module, ids, torch.ones_like(ids), {(point.path, point.side) for point in points})
    before, attention, mlp, after = (found[point.path, point.side].double().flatten() for point in points)
    if not before.numel() == attention.numel() == mlp.numel() == after.numel():
        return hook_map.without_branches(f"the attention and MLP of {type(module).__name__} are not of its width")
    error = float((before + attention + mlp - after).norm())
    rounding = torch.finfo(found[points[0].path, points[0].side].dtype).eps
    allowed = 4 * rounding * float(after.norm()) + (1e-3 + 2 * rounding) * float(attention.norm() + mlp.norm())
    # Not a number means an overflow in half precision, which says nothing about the wiring.
    if error > allowed:
        reason = f"what {type(module).__name__} adds to its stream is not the output of its attention and MLP"
        return hook_map.without_branches(reason)
    return hook_map


def _check_structure(auto: Any, config: Any, trust_remote_code: bool) -> None:
    """Finds the hooks on the bare module tree, so that a model that cannot be used is refused before its weights."""
    n_layers = _n_layers(config)
    try:
        with torch.device("meta"):
            module = auto.from_config(config, trust_remote_code=trust_remote_code)
    except _REFUSALS:
        # Some models compute while they are built, which needs real tensors; the loaded one is checked again.
        return
    find_hooks(module, n_layers)


def _n_layers(config: Any) -> int:
    if getattr(config, "is_encoder_decoder", False):
        raise BadInput(
            f"{config.model_type} is an encoder-decoder: it has two residual streams",
            hint="featuredb reads models with one residual stream",
        )
    text = config.get_text_config()
    n_layers = getattr(text, "num_hidden_layers", None)
    if not isinstance(n_layers, int) or n_layers < 1 or not isinstance(getattr(text, "hidden_size", None), int):
        raise BadInput(
            f"the config of {config.model_type} does not say how many blocks it has, and how wide they are",
            hint="featuredb reads transformers",
        )
    return n_layers


def _auto_class(config: Any) -> Any:
    """AutoModelForCausalLM where the config names a language model that it knows, else AutoModel."""
    import transformers

    names = [str(name) for name in getattr(config, "architectures", None) or []]
    # Custom code maps its own classes; a config that names none falls back on what its type is for.
    custom = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    known = custom or type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    masked = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    causal = known and (any(name.endswith(_CAUSAL) for name in names) if names else not masked)
    return transformers.AutoModelForCausalLM if causal else transformers.AutoModel


def _auto(kind: str, source: str, trust_remote_code: bool) -> Any:
    import transformers

    return getattr(transformers, kind).from_pretrained(source, trust_remote_code=trust_remote_code)


def _weights(auto: Any, source: str, config: Any, dtype: torch.dtype | str, trust_remote_code: bool) -> nn.Module:
    module, report = auto.from_pretrained(
        source,
        config=config,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        weights_only=True,
        output_loading_info=True,
    )
    missing = sorted(str(key) for key in report["missing_keys"] if not _ASIDE.search(str(key)))
    if missing:
        raise BadInput(
            f"{source}: {len(missing)} weights are missing, among them {missing[0]}",
            hint="transformers would fill them with random numbers; are config and weights of one model?",
        )
    return cast(nn.Module, module)


def _local_folder(source: str) -> Path | None:
    """The folder a source names, None for what can only be a Hub id."""
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BadInput(f"{source} has no config.json", hint="a model is a folder that save_pretrained wrote")
        return folder
    if folder.is_file():
        raise BadInput(f"{source} is a file", hint="give the folder that holds config.json and the weights")
    if not _HUB_ID.fullmatch(source):
        otherwise = "give a model's folder, or a Hugging Face id such as 'gpt2'"
        raise NotFound(f"no model at {source!r}", hint=_nearest_folder(folder) or otherwise)
    return None


def _nearest_folder(path: Path) -> str | None:
    """A hint naming the models beside a path that are called nearly so; None where there are none."""
    beside = [config.parent.name for config in path.parent.glob("*/config.json")]
    return nearest(path.name, sorted(beside))


def _load(source: str, what: str, work: Callable[[], Loaded]) -> Loaded:
    """What a call into transformers returns, its refusals put into our words."""
    try:
        return work()
    except FeatureDBError:
        raise
    except _REFUSALS as error:
        if is_out_of_memory(error):
            raise
        raise _refusal(source, what, error) from error


def _refusal(source: str, what: str, error: Exception) -> FeatureDBError:
    chain = _chain(error)
    kinds = {type(link).__name__ for link in chain}
    said = " ".join(str(link) for link in chain)
    if "trust_remote_code" in said:
        return BadInput(
            f"{source} comes with Python code of its own, which would be run to load it",
            hint="read that code, then load the model with trust_remote_code=True",
        )
    if any(isinstance(link, pickle.UnpicklingError) for link in chain):
        return BadInput(
            f"{source}: its weights are pickled and would run code when loaded",
            hint="convert them to safetensors on a machine you can lose",
        )
    if "GatedRepoError" in kinds:
        return NotFound(f"{source} is gated on the Hugging Face Hub", hint="ask for access there, then log in with hf")
    if "RepositoryNotFoundError" in kinds:
        return NotFound(f"the Hugging Face Hub has no model {source!r}", hint="give a model's folder, or another id")
    if what == "config" and kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled"}:
        state = "switched off (HF_HUB_OFFLINE)" if _offline() else "not working"
        otherwise = f"network access is {state}; give a model's folder, or an id that was downloaded before"
        return NotFound(
            f"no model {source!r}: no folder is called so, and the local cache has none of this name",
            hint=_nearest_folder(Path(source)) or otherwise,
        )
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return BadInput(
        f"{source}: its {what} cannot be loaded: {reason[:300]}",
        hint="is the folder whole? Try to load it with transformers alone",
    )


def _chain(error: BaseException) -> list[BaseException]:
    links = [error]
    while (cause := links[-1].__cause__ or links[-1].__context__) is not None and len(links) < 8:
        links.append(cause)
    return links


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in _DEVICES:
        raise BadInput(f"no device {name!r}", hint="auto, cpu, cuda, cuda:0 or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(f"no device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices", hint="try auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BadInput(f"no device {name!r} on this machine", hint="try auto")
    return device


def _dtype(name: str, device: str) -> torch.dtype | str:
    if name == "auto":
        return torch.float32 if _device(device).type == "cpu" else "auto"
    if name not in _DTYPES:
        raise BadInput(f"no number type {name!r}", hint="auto, float32 (fp32), bfloat16 (bf16) or float16 (fp16)")
    return _DTYPES[name]


def _max_length(text: Any, tokenizer: Any) -> int | None:
    limits = (getattr(text, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None))
    # Tokenizers that know no limit give a number beyond any row.
    known = [int(limit) for limit in limits if isinstance(limit, int) and 0 < limit < 1_000_000_000]
    return min(known, default=None)


@contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """Keeps transformers' talk off the terminal; with `bars`, downloads still show how far they are."""
    from transformers.utils import logging

    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown and not bars:
            logging.enable_progress_bar()
