"""The saelens plugin: what sae-lens saves is loaded, and encodes and decodes as sae-lens itself does."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from featuredb.dictionary import Dictionary, load_dictionary
from featuredb.errors import BadInput
from featuredb.plugins import Ingest, Registry
from featuredb.testing.ingest import IngestContract

D, F, D_OUT = 16, 48, 10
METADATA = {
    "model_name": "gpt2-small",
    "hook_name": "blocks.8.hook_resid_pre",
    "context_size": 128,
    "prepend_bos": True,
    "dataset_path": "Skylion007/openwebtext",
}
ARCHITECTURES = [
    "standard",
    "topk",
    "abstopk",
    "jumprelu",
    "gated",
    "matching_pursuit",
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
]


def filled(sae: Any, seed: int = 0) -> Any:
    """The SAE with every parameter drawn at random, biases and thresholds too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(sae.named_parameters()):
            value = torch.randn(parameter.shape, generator=generator)
            scale = 0.3 if name in ("r_mag", "b_gate", "W_skip") else 1.0
            parameter.copy_((value.abs() if name == "threshold" else value * scale).to(parameter.dtype))
        if sae.cfg.architecture() == "matching_pursuit":
            sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))
    return sae


def new_sae(architecture: str, **settings: Any) -> Any:
    from sae_lens.registry import get_sae_class
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class = get_sae_class(architecture)
    base: dict[str, Any] = {"d_in": D, "d_sae": F, "metadata": SAEMetadata(**METADATA)}
    if "topk" in architecture:
        base["k"] = 5
    if architecture == "matching_pursuit":
        base |= {"residual_threshold": 0.5, "max_iterations": 8}
    if "transcoder" in architecture:
        base |= {
            "d_out": D_OUT,
            "apply_b_dec_to_input": False,
            "metadata": SAEMetadata(**METADATA, hook_name_out="blocks.8.hook_mlp_out"),
        }
    return filled(sae_class(config_class(**base | settings)))


def x(n: int = 200) -> torch.Tensor:
    return 2 * torch.randn(n, D, generator=torch.Generator().manual_seed(9)) + 0.5


def assert_same(dictionary: Dictionary, sae: Any, rows: torch.Tensor) -> None:
    """Identical active sets and 1e-5 relative, for encode, decode and the whole."""
    with torch.no_grad():
        theirs = sae.encode(rows)
        out = sae.decode(theirs)
        whole = sae(rows)
    ours = dictionary.encode(rows)
    assert torch.equal(ours != 0, theirs != 0)
    assert (theirs != 0).any()
    assert (theirs == 0).any()
    close(ours, theirs)
    if dictionary.input_norm.kind == "none" or not dictionary.input_norm.undone:
        # sae-lens's decode undoes the norm of whichever rows it encoded last.
        close(dictionary.decode(theirs), out)
    close(dictionary.reconstruct(rows), whole)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * float(theirs.abs().max()))


def saved(sae: Any, folder: Path) -> Dictionary:
    sae.save_model(folder)
    (dictionary,) = load_dictionary(str(folder))
    return dictionary


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_encodes_and_decodes_as_sae_lens_does(architecture: str, tmp_path: Path) -> None:
    sae = new_sae(architecture)
    dictionary = saved(sae, tmp_path / "mine")
    assert_same(dictionary, sae, x())
    assert dictionary.name == "mine"
    assert dictionary.extra["architecture"] == architecture


@pytest.mark.parametrize("norm", ["expected_average_only_in", "constant_norm_rescale", "layer_norm"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_input_norm_is_applied_and_undone(architecture: str, norm: str, tmp_path: Path) -> None:
    sae = new_sae(architecture, normalize_activations=norm)
    assert_same(saved(sae, tmp_path / "mine"), sae, x())


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated", "matching_pursuit"])
def test_the_decoder_bias_need_not_be_subtracted(architecture: str, tmp_path: Path) -> None:
    sae = new_sae(architecture, apply_b_dec_to_input=False)
    dictionary = saved(sae, tmp_path / "mine")
    assert not dictionary.subtract_b_dec
    assert_same(dictionary, sae, x())


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
def test_top_k_may_choose_by_decoder_norm(architecture: str, tmp_path: Path) -> None:
    sae = new_sae(architecture, rescale_acts_by_decoder_norm=True)
    dictionary = saved(sae, tmp_path / "mine")
    assert dictionary.select_by_decoder_norm
    assert_same(dictionary, sae, x())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_weights_of_another_dtype_are_used_in_float32(dtype: str, tmp_path: Path) -> None:
    from sae_lens import SAE

    dictionary = saved(new_sae("jumprelu", dtype=dtype), tmp_path / "mine")
    assert_same(dictionary, SAE.load_from_disk(tmp_path / "mine", dtype="float32"), x())
    assert dictionary.trained.dtype == dtype


def test_flattened_heads_are_encoded_as_sae_lens_encodes_them_apart(tmp_path: Path) -> None:
    from sae_lens.saes.sae import SAEMetadata

    metadata = SAEMetadata(**METADATA | {"hook_name": "blocks.3.attn.hook_z"})
    sae = new_sae("standard", reshape_activations="hook_z", metadata=metadata)
    dictionary = saved(sae, tmp_path / "mine")
    with torch.no_grad():
        close(dictionary.encode(x()), sae.encode(x().view(-1, 4, 4)))
    assert dictionary.hook == "blocks.3.attn.hook_z"
    assert dictionary.extra["reshape_activations"] == "hook_z"


def test_what_it_was_trained_on_is_kept(tmp_path: Path) -> None:
    dictionary = saved(new_sae("skip_transcoder"), tmp_path / "my dictionary")
    assert dictionary.name == "my-dictionary"
    assert (dictionary.kind, dictionary.hook, dictionary.hooks_out) == (
        "transcoder",
        "layers.8.resid_pre",
        ("layers.8.mlp_out",),
    )
    assert dictionary.trained.model == "gpt2-small"
    assert dictionary.trained.context_length == 128
    assert dictionary.trained.prepend_bos is True
    assert dictionary.trained.corpus == "Skylion007/openwebtext"


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk", "topk", "jumprelu", "gated"])
@pytest.mark.parametrize("scale", [None, 0.25])
def test_a_training_checkpoint_is_what_sae_lens_would_have_finished(
    architecture: str, scale: float | None, tmp_path: Path
) -> None:
    from sae_lens import SAE
    from sae_lens.training.activation_scaler import ActivationScaler

    sae = new_training_sae(architecture, scaled=scale is not None)
    sae.save_model(tmp_path / "final_500")
    ActivationScaler(scaling_factor=scale).save(str(tmp_path / "final_500" / "activation_scaler.json"))
    (dictionary,) = load_dictionary(f"saelens:{tmp_path / 'final_500'}")
    if scale is not None:
        sae.fold_activation_norm_scaling_factor(scale)
    sae.save_inference_model(tmp_path / "finished")
    assert_same(dictionary, SAE.load_from_disk(tmp_path / "finished"), x())
    assert dictionary.name == f"{tmp_path.name}-final_500"


def new_training_sae(architecture: str, *, scaled: bool = False) -> Any:
    from sae_lens.registry import get_sae_training_class

    sae_class, config_class = get_sae_training_class(architecture)
    settings: dict[str, Any] = {"k": 5} if "topk" in architecture else {}
    if architecture == "matryoshka_batchtopk":
        settings["matryoshka_widths"] = [12, F]
    norm = "expected_average_only_in" if scaled else "none"
    sae = filled(sae_class(config_class(d_in=D, d_sae=F, normalize_activations=norm, **settings)))
    if "batchtopk" in architecture:
        sae.topk_threshold.fill_(3.0)
    return sae


def test_a_checkpoint_whose_scale_is_lost_is_refused(tmp_path: Path) -> None:
    new_training_sae("batchtopk", scaled=True).save_model(tmp_path / "step")
    with pytest.raises(BadInput, match="was trained on scaled activations, and the scale is not there"):
        load_dictionary(str(tmp_path / "step"))


@pytest.mark.parametrize("architecture", ["jumprelu", "gated", "batchtopk"])
def test_a_whitened_checkpoint_is_unwhitened(architecture: str, tmp_path: Path) -> None:
    from sae_lens.training.activation_scaler import ActivationScaler

    sae = new_training_sae(architecture)
    sae.cfg.normalize_activations = "covariance_whitening"
    sae.save_model(tmp_path / "mine")
    scaler = ActivationScaler()
    scaler.estimate_whitening(D, iter([x(500), x(400)]), n_batches_for_norm_estimate=2)
    scaler.save(str(tmp_path / "mine" / "activation_scaler.json"))
    (dictionary,) = load_dictionary(str(tmp_path / "mine"))
    with torch.no_grad():
        if architecture == "batchtopk":  # its own encode ranks the whole batch; finished, it is a threshold
            whitened = sae.process_sae_in(scaler(x())) @ sae.W_enc + sae.b_enc
            pre = whitened * sae.W_dec.norm(dim=1)
            theirs = pre * (pre > 3.0)
        else:
            theirs = sae.encode(scaler(x()))
        out = scaler.unscale(sae.decode(theirs))
    ours = dictionary.encode(x())
    assert torch.equal(ours != 0, theirs != 0)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.max()))
    torch.testing.assert_close(dictionary.reconstruct(x()), out, rtol=1e-4, atol=1e-5 * float(out.abs().max()))


@pytest.mark.parametrize("activation", ["relu", "topk"])
def test_configs_of_old_go_through_sae_lens(activation: str, tmp_path: Path) -> None:
    from sae_lens import SAE
    from safetensors.torch import save_file

    state = {name: value.detach() for name, value in new_sae("standard").state_dict().items()}
    save_file(state | {"scaling_factor": torch.ones(F)}, tmp_path / "sae_weights.safetensors")
    cfg: dict[str, Any] = {
        "hook_point": "blocks.2.hook_resid_post",
        "model_name": "gpt2-small",
        "d_in": D,
        "d_sae": F,
        "dtype": "torch.float32",
        "activation_fn_str": activation,
        "normalize_activations": False,
        "context_size": 64,
    }
    if activation == "topk":
        cfg["activation_fn_kwargs"] = {"k": 4}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    (dictionary,) = load_dictionary(str(tmp_path))
    assert_same(dictionary, SAE.load_from_disk(tmp_path, dtype="float32"), x())
    assert dictionary.hook == "layers.2.resid_post"
    assert dictionary.subtract_b_dec


def test_a_folder_of_folders_holds_several(tmp_path: Path) -> None:
    for layer in (2, 10):
        new_sae("standard").save_model(tmp_path / "mine" / f"layer_{layer}" / "width_48")
    found = load_dictionary(str(tmp_path / "mine"))
    assert [dictionary.name for dictionary in found] == ["layer_10-width_48", "layer_2-width_48"]


def test_a_folder_is_loaded_without_importing_sae_lens(tmp_path: Path) -> None:
    new_sae("jumprelu").save_model(tmp_path / "mine")
    code = f"""
import sys
from featuredb.dictionary import load_dictionary
load_dictionary({str(tmp_path / "mine")!r})
assert "sae_lens" not in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class TestContract(IngestContract):
    @pytest.fixture
    def plugin(self) -> Ingest:
        return Registry.installed().ingest("saelens")

    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        for architecture in ("topk", "gated", "matching_pursuit", "skip_transcoder"):
            new_sae(architecture).save_model(tmp_path / "several" / architecture)
        return str(tmp_path / "several")


def test_a_published_sae_is_what_from_pretrained_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real registry, converter and folding; only the download is answered from a folder."""
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders

    new_sae("standard", normalize_activations="none").save_model(tmp_path / "blocks.8.hook_resid_pre")

    def from_folder(repo_id: str, filename: str, **_: Any) -> str:
        if not (tmp_path / filename).is_file():
            from huggingface_hub.errors import EntryNotFoundError

            raise EntryNotFoundError(f"{repo_id} has no {filename}")
        return str(tmp_path / filename)

    monkeypatch.setattr(pretrained_sae_loaders, "hf_hub_download", from_folder)
    (dictionary,) = load_dictionary("saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae = SAE.from_pretrained("gpt2-small-res-jb", "blocks.8.hook_resid_pre")
    assert_same(dictionary, sae, x())
    assert dictionary.name == "gpt2-small-res-jb-blocks.8.hook_resid_pre"
    assert dictionary.source == "gpt2-small-res-jb/blocks.8.hook_resid_pre"
