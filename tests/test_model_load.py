"""Loading: what is taken, under what name, and how what cannot be used is refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from featuredb.errors import BadInput, NotFound
from featuredb.model import is_out_of_memory, load_model, model_from
from tests.tiny_models import WIDTH, save_tiny, tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_folder_loads_as_it_was_saved(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load_model(str(saved), device="cpu")
    assert capfd.readouterr() == ("", "")
    assert (model.name, model.source, model.architecture) == ("tiny-llama", str(saved), "LlamaForCausalLM")
    assert (model.n_layers, model.d_model, model.max_length, model.vocab_size) == (2, WIDTH, 128, 320)
    assert (model.device, model.dtype, model.bos_id) == (torch.device("cpu"), torch.float32, 0)
    ids = torch.arange(8)[None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    memory = model_from(*tiny("llama"), name="memory")
    hook = "layers.1.mlp_out"
    assert torch.equal(model.run(ids, mask, [hook])[hook], memory.run(ids, mask, [hook])[hook])


def test_the_fingerprint_follows_weights_and_config_and_nothing_else(saved: Path, copy: Path, tmp_path: Path) -> None:
    first = load_model(str(saved)).fingerprint
    assert load_model(str(copy), dtype="bf16").fingerprint == first
    assert load_model(str(save_tiny(tmp_path / "seeded", "llama", seed=1))).fingerprint != first
    edit_config(copy, rms_norm_eps=0.5)
    assert load_model(str(copy)).fingerprint != first


def test_models_in_memory_are_told_apart_by_their_weights() -> None:
    first, same, other = (model_from(*tiny("gpt2", seed=seed), name="m").fingerprint for seed in (0, 0, 1))
    assert first == same != other
    assert len(first) == 64
    module, tokenizer = tiny("gpt2")
    assert model_from(module.to(torch.bfloat16), tokenizer, "m").fingerprint != first


def test_a_language_model_has_its_head_and_others_do_not(tmp_path: Path) -> None:
    bert = load_model(str(save_tiny(tmp_path / "bert", "bert")))
    assert (bert.architecture, bert.unembedding()) == ("BertModel", None)
    assert load_model(str(save_tiny(tmp_path / "gpt2", "gpt2"))).architecture == "GPT2LMHeadModel"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16), ("float16", torch.float16)],
)
def test_number_types_by_name(saved: Path, name: str, dtype: torch.dtype) -> None:
    assert load_model(str(saved), device="cpu", dtype=name).dtype == dtype


def test_unknown_devices_and_number_types_are_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no number type 'int8'"):
        load_model(str(saved), dtype="int8")
    for name in ("gpu", "meta", ""):
        with pytest.raises(BadInput, match=f"no device '{name}'"):
            load_model(str(saved), device=name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BadInput, match="no device 'cuda': torch sees 0 CUDA devices"):
        load_model(str(saved), device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_what_the_cpu_gives(saved: Path) -> None:
    ids = torch.arange(8)[None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    near, far = load_model(str(saved), device="cpu"), load_model(str(saved))
    assert far.device.type == "cuda"
    for hook in near.hooks():
        torch.testing.assert_close(far.run(ids, mask, [hook])[hook].cpu(), near.run(ids, mask, [hook])[hook])


def test_mamba_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "mamba", "mamba")
    (folder / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(BadInput, match="not attention and an MLP"):
        load_model(str(folder))


def test_no_such_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NotFound) as caught:
        load_model("no-such-org/no-such-model")
    assert caught.value.message == (
        "no model 'no-such-org/no-such-model': no folder is called so, and the local cache has none of this name"
    )
    assert caught.value.hint == (
        "network access is switched off (HF_HUB_OFFLINE); give a model's folder, or an id that was downloaded before"
    )
    with pytest.raises(NotFound, match="no model at"):
        load_model(str(tmp_path / "nowhere"))


def test_a_hub_id_comes_from_the_cache_and_is_known_by_its_commit(saved: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(saved, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    script = (
        "from featuredb.model import load_model\n"
        "model = load_model('someone/tiny')\n"
        "print(model.name, model.fingerprint, model.n_layers)"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"someone/tiny {commit} 2\n", "")


def test_what_is_no_model_folder_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no config\.json"):
        load_model(str(tmp_path))
    with pytest.raises(BadInput, match="is a file"):
        load_model(str(saved / "config.json"))


def test_a_broken_config_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    with pytest.raises(BadInput, match="its config cannot be loaded"):
        load_model(str(copy))
    (copy / "config.json").write_text('{"model_type": "no_such_type"}')
    with pytest.raises(BadInput, match="its config cannot be loaded.*no_such_type"):
        load_model(str(copy))


def test_weights_that_cannot_be_read_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(BadInput, match="its weights cannot be loaded"):
        load_model(str(copy))
    weights.unlink()
    with pytest.raises(BadInput, match="holds no weights"):
        load_model(str(copy))


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match=r"has no model-00001-of-00002\.safetensors"):
        load_model(str(copy))


def test_weights_that_do_not_fit_the_config_are_refused(copy: Path) -> None:
    edit_config(copy, num_hidden_layers=3, layer_types=None)
    with pytest.raises(BadInput, match=r"weights are missing, among them model\.layers\.2"):
        load_model(str(copy))
    edit_config(copy, num_hidden_layers=2, hidden_size=64)
    with pytest.raises(BadInput, match="its weights cannot be loaded"):
        load_model(str(copy))


def test_a_folder_without_a_tokenizer_is_refused(copy: Path) -> None:
    for file in copy.glob("token*"):
        file.unlink()
    with pytest.raises(BadInput, match="its tokenizer cannot be loaded"):
        load_model(str(copy))


class Payload:
    """What runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


def test_pickled_weights_load_only_where_they_run_no_code(copy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    (exact := copy / "model.safetensors").rename(moved := tmp_path / "moved.safetensors")
    torch.save(load_file(moved), copy / "pytorch_model.bin")
    assert not exact.exists()
    assert load_model(str(copy)).n_layers == 2
    marker = tmp_path / "code-was-run"
    for protocol in (2, 4):
        (copy / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Payload(marker)}, protocol=protocol))
        with pytest.raises(BadInput, match="its weights are pickled and would run code"):
            load_model(str(copy))
    torch.save({"weight": Payload(marker)}, copy / "pytorch_model.bin")
    with pytest.raises(BadInput, match="its weights are pickled and would run code"):
        load_model(str(copy))
    assert not marker.exists()


def test_code_that_comes_with_a_model_is_not_run(copy: Path, tmp_path: Path) -> None:
    marker = tmp_path / "code-was-run"
    (copy / "configuration_own.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    edit_config(copy, model_type="own", auto_map={"AutoConfig": "configuration_own.OwnConfig"})
    with pytest.raises(BadInput) as caught:
        load_model(str(copy))
    assert caught.value.message == f"{copy} comes with Python code of its own, which would be run to load it"
    assert caught.value.hint == "read that code, then load the model with trust_remote_code=True"
    assert not marker.exists()


def test_memory_running_out_is_told_from_other_failures() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
