"""The saelens plugin: what it refuses, in which words, and what it suggests instead. sae-lens writes nothing here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from featuredb.dictionary import load_dictionary
from featuredb.errors import BadInput, NotFound, PluginFailed

D, F = 16, 48


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from safetensors.torch import save_file

    made = tmp_path / "mine"
    made.mkdir()
    tensors = {"W_enc": torch.ones(D, F), "b_enc": torch.ones(F), "W_dec": torch.ones(F, D), "b_dec": torch.ones(D)}
    save_file(tensors, made / "sae_weights.safetensors")
    cfg = {"architecture": "standard", "d_in": D, "d_sae": F, "metadata": {"sae_lens_version": "6.54.12"}}
    (made / "cfg.json").write_text(json.dumps(cfg))
    return made


def rewrite(folder: Path, **changed: Any) -> None:
    """The folder's weights with some replaced, and those that are None taken away."""
    from safetensors.torch import load_file, save_file

    path = folder / "sae_weights.safetensors"
    tensors = {**load_file(path), **changed}
    save_file({name: value.contiguous() for name, value in tensors.items() if value is not None}, path)


def test_the_folder_is_sound_before_it_is_spoilt(folder: Path) -> None:
    (dictionary,) = load_dictionary(str(folder))
    assert (dictionary.name, dictionary.d_in, dictionary.n_features, dictionary.hook) == ("mine", D, F, "")


def refused(folder: Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        load_dictionary(f"saelens:{folder}")
    return caught.value


def test_a_tensor_with_nan_is_named(folder: Path) -> None:
    w_dec = torch.randn(F, D)
    w_dec[13, 2] = float("nan")
    rewrite(folder, W_dec=w_dec)
    error = refused(folder)
    assert (error.message, error.hint) == ("mine: w_dec row 13 is not finite", "was it saved in float16?")


def test_a_transposed_tensor_is_named(folder: Path) -> None:
    rewrite(folder, W_enc=torch.randn(F, D))
    error = refused(folder)
    file = folder / "sae_weights.safetensors"
    assert error.message == f"{file}: W_enc has shape (48, 16), and (16, 48) is what its config says"
    assert error.hint == "is it transposed?"


def test_a_missing_and_a_strange_tensor_are_named(folder: Path) -> None:
    rewrite(folder, b_enc=None)
    assert "has no tensor 'b_enc'" in refused(folder).message
    rewrite(folder, b_enc=torch.zeros(F), W_skip=torch.zeros(D, D))
    assert "has a tensor 'W_skip', which no standard dictionary has" in refused(folder).message


def test_a_cut_file_is_named(folder: Path) -> None:
    file = folder / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert refused(folder).message.startswith(f"{file} is not a whole safetensors file")
    file.unlink()
    assert refused(folder).message == f"{folder} has no sae_weights.safetensors"


@pytest.mark.parametrize("suffix", ["pt", "pkl", "bin", "pth"])
def test_pickled_weights_are_never_opened(folder: Path, suffix: str) -> None:
    (folder / "sae_weights.safetensors").unlink()
    pickled = folder / f"sae_weights.{suffix}"
    pickled.write_bytes(b"\x80\x04cos\nsystem\n(S'touch opened'\ntR.")
    for source in (folder, pickled):
        error = refused(source)
        assert error.message == f"{pickled} is pickled and could run code, so it was not opened"
        assert error.hint is not None
        assert "safetensors" in error.hint


def test_a_broken_config_is_named(folder: Path) -> None:
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text("{")
    assert refused(folder).message.startswith(f"{folder / 'cfg.json'} is not JSON")
    (folder / "cfg.json").write_text("[]")
    assert refused(folder).message == f"{folder / 'cfg.json'} holds a list, not an object"
    (folder / "cfg.json").write_text(json.dumps({key: value for key, value in cfg.items() if key != "d_sae"}))
    assert "its config has no width 'd_sae'" in refused(folder).message
    (folder / "cfg.json").write_text(json.dumps(cfg | {"architecture": "wavelet"}))
    assert "wavelet" in refused(folder).message
    (folder / "cfg.json").write_text(json.dumps(cfg | {"normalize_activations": "sideways"}))
    assert "normalize_activations is 'sideways'" in refused(folder).message


def test_a_temporal_sae_is_refused_with_the_reason(folder: Path) -> None:
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(cfg | {"architecture": "temporal"}))
    assert "whose encode attends to the tokens before" in refused(folder).message


def test_a_missing_folder_suggests_its_neighbour(folder: Path) -> None:
    with pytest.raises(NotFound) as caught:
        load_dictionary(f"saelens:{folder.with_name('mime')}")
    assert caught.value.hint == "did you mean 'mine'?"


def test_an_unknown_release_suggests_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        load_dictionary("saelens:gpt2-small-res-jbb/blocks.8.hook_resid_pre")
    assert caught.value.hint is not None
    assert "'gpt2-small-res-jb'" in caught.value.hint


def test_an_unknown_id_suggests_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        load_dictionary("saelens:gpt2-small-res-jb/blocks.88.hook_resid_pre")
    assert caught.value.message == "release 'gpt2-small-res-jb' has no SAE 'blocks.88.hook_resid_pre'"
    assert caught.value.hint is not None
    assert "'blocks.8.hook_resid_pre'" in caught.value.hint


def test_a_published_temporal_sae_is_refused_before_any_download() -> None:
    from featuredb_ingest._saelens_library import registry

    release = next(name for name, entry in registry().items() if entry.get("conversion_func") == "temporal")
    sae_id = registry()[release]["saes"][0]["id"]
    with pytest.raises(BadInput, match="attends to the tokens before"):
        load_dictionary(f"saelens:{release}/{sae_id}")


def test_offline_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PluginFailed) as caught:
        load_dictionary("saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre")
    assert caught.value.hint is not None
    assert "HF_HUB_OFFLINE" in caught.value.hint
