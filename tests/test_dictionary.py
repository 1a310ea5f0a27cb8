"""The dictionary record: what it refuses, that it keeps every bit, and that each row is encoded alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featuredb.activation_functions import Activation
from featuredb.dictionary import Dictionary, InputNorm, TrainedOn, load_dictionary
from featuredb.errors import BadInput, NotFound
from featuredb.hooknames import canonical_hook

D, F = 6, 12


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def activation(kind: str) -> Activation:
    numbers: dict[str, dict[str, Any]] = {
        "topk": {"k": 3},
        "abstopk": {"k": 3},
        "groupmax": {"k": 4},
        "jumprelu": {"threshold": noise(F).abs()},
        "gated": {"b_gate": noise(F, seed=1), "b_mag": noise(F, seed=2), "r_mag": noise(F, seed=3)},
        "matching_pursuit": {"residual_threshold": 0.01, "max_iterations": 4},
    }
    return Activation(kind, **numbers.get(kind, {}))  # type: ignore[arg-type]


def small(kind: str = "relu", **changed: Any) -> Dictionary:
    tied = kind == "matching_pursuit"
    made: dict[str, Any] = {
        "name": "small",
        "kind": "sae",
        "hook": "layers.1.resid_post",
        "hooks_out": ("layers.1.resid_post",),
        "w_enc": None if tied else noise(D, F),
        "b_enc": torch.zeros(F) if tied else noise(F),
        "w_dec": torch.nn.functional.normalize(noise(F, 1, D), dim=-1),
        "b_dec": noise(1, D),
        "activation": activation(kind),
        "subtract_b_dec": True,
    }
    return Dictionary(**made | changed)


KINDS = ["relu", "jumprelu", "topk", "abstopk", "groupmax", "gated", "matching_pursuit"]
NORMS = [
    InputNorm(),
    InputNorm("layer_norm"),
    InputNorm("l2_to_sqrt_d"),
    InputNorm("affine", mean=noise(D), factor=torch.tensor(2.0)),
]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"w_enc": noise(F, D)}, "small: w_enc has shape (12, 6), and w_dec asks for (12, 12)"),
        ({"w_enc": noise(D + 1, F)}, "small: b_dec of shape (1, 6) cannot be subtracted from 7 inputs"),
        ({"w_enc": noise(D, F + 1)}, "small: w_enc has shape (6, 13), and w_dec asks for (6, 12)"),
        ({"b_enc": noise(F + 1)}, "small: b_enc has shape (13,), and w_dec asks for (12,)"),
        ({"w_dec": noise(F, D)}, "small: w_dec has shape (12, 6), not (features, outputs, width)"),
        ({"w_skip": noise(D, D + 1)}, "small: w_skip has shape (6, 7), and w_dec asks for (6, 6)"),
        ({"w_enc": None}, "small: w_enc is missing"),
        ({"hooks_out": ()}, "small: 0 output hooks for 1 outputs"),
        ({"activation": Activation("topk", k=F + 1)}, "small: topk needs k in 1..12, not 13"),
        ({"activation": Activation("jumprelu")}, "small: jumprelu needs threshold"),
        (
            {"activation": Activation("jumprelu", threshold=noise(3))},
            "small: threshold has shape (3,), and there are 12 features",
        ),
        ({"activation": Activation("groupmax", k=5)}, "small: groupmax cannot split 12 features into 5 equal groups"),
        ({"name": "../etc"}, "'../etc' cannot name a dictionary"),
    ],
)
def test_arrays_that_do_not_meet_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        small(**changed)
    assert caught.value.message == message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_named(bad: float) -> None:
    w_dec = noise(F, 1, D)
    w_dec[7, 0, 2] = bad
    with pytest.raises(BadInput) as caught:
        small(w_dec=w_dec)
    assert caught.value.message == "small: w_dec row 7 is not finite"
    assert caught.value.hint == "was it saved in float16?"


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.kind)
@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_reading_keeps_every_bit(kind: str, norm: InputNorm, tmp_path: Path) -> None:
    dictionary = small(
        kind,
        input_norm=norm,
        trained=TrainedOn("gpt2", 128, True, "float32", "openwebtext"),
        extra={"metadata": {"layer": 1}},
        select_by_decoder_norm=kind == "topk",
    )
    dictionary.save(tmp_path / "weights.safetensors")
    back = Dictionary.read(tmp_path / "weights.safetensors")
    assert back.fingerprint == dictionary.fingerprint
    assert all(torch.equal(value, back.tensors()[name]) for name, value in dictionary.tensors().items())
    assert (back.trained, back.extra, back.hooks_out) == (dictionary.trained, dictionary.extra, dictionary.hooks_out)
    x = noise(5, D)
    assert torch.equal(back.reconstruct(x), dictionary.reconstruct(x))


def test_reading_another_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    with pytest.raises(NotFound):
        Dictionary.read(path)
    save_file({"w": noise(2)}, path)
    with pytest.raises(BadInput, match="is not a dictionary that featuredb wrote"):
        Dictionary.read(path)
    small().save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadInput, match="is not a whole safetensors file"):
        Dictionary.read(path)


def test_the_fingerprint_follows_what_it_does_and_not_what_it_is_called() -> None:
    one = small()
    assert replace(one, name="other", source="elsewhere", plugin="x.v1").fingerprint == one.fingerprint
    assert replace(one, subtract_b_dec=False).fingerprint != one.fingerprint
    nudged = one.w_dec.clone()
    nudged[0, 0, 0] += 1e-3
    assert replace(one, w_dec=nudged).fingerprint != one.fingerprint


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_encode_is_the_activation_of_the_pre_activations(kind: str) -> None:
    dictionary = small(kind, select_by_decoder_norm=True, w_dec=noise(F, 1, D))
    assert dictionary.w_enc is not None
    x = noise(5, D)
    buffer = torch.full((5, F), 7.0)
    pre = dictionary.pre_activations(x, out=buffer)
    assert pre.data_ptr() == buffer.data_ptr()
    assert torch.equal(dictionary.activation(pre), dictionary.encode(x))
    by_hand = ((x - dictionary.b_dec[0]) @ dictionary.w_enc + dictionary.b_enc) * dictionary.w_dec[:, 0].norm(dim=1)
    torch.testing.assert_close(pre, by_hand)


def test_matching_pursuit_has_no_pre_activations() -> None:
    dictionary = small("matching_pursuit")
    assert not dictionary.has_pre_activations
    with pytest.raises(BadInput):
        dictionary.pre_activations(noise(2, D))


def test_the_folded_bias_gives_the_same_pre_activations() -> None:
    dictionary = small()
    bias = dictionary.folded_bias()
    assert bias is not None
    assert dictionary.w_enc is not None
    x = noise(5, D)
    torch.testing.assert_close(x @ dictionary.w_enc + bias, dictionary.pre_activations(x), rtol=1e-5, atol=1e-5)
    assert small(input_norm=InputNorm("layer_norm")).folded_bias() is None


def test_groupmax_keeps_the_best_of_each_group() -> None:
    pre = torch.tensor([[1.0, 3.0, -1.0, -2.0], [-5.0, -4.0, 2.0, 0.5]])
    expected = torch.tensor([[0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]])
    assert torch.equal(Activation("groupmax", k=2)(pre), expected)


def test_several_outputs_are_decoded_apart() -> None:
    w_dec, b_dec = noise(F, 3, D), noise(3, D)
    dictionary = small(w_dec=w_dec, b_dec=b_dec, hooks_out=("a", "b", "c"), subtract_b_dec=False)
    acts = noise(4, F).relu()
    out = dictionary.decode(acts)
    for i in range(3):
        torch.testing.assert_close(out[:, i], acts @ w_dec[:, i] + b_dec[i])


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(BadInput) as caught:
        small().encode(noise(2, D + 1))
    assert caught.value.message == "small takes rows of width 6, and was given shape (2, 7)"
    assert caught.value.hint == "it was trained at layers.1.resid_post"
    with pytest.raises(BadInput):
        small().decode(noise(2, F + 1))


def test_a_dictionary_moves_to_another_dtype_whole() -> None:
    moved = small("gated", input_norm=NORMS[3]).to(dtype=torch.bfloat16)
    assert {value.dtype for value in moved.tensors().values()} == {torch.bfloat16}
    assert moved.encode(noise(2, D)).dtype == torch.float32


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    norm=st.sampled_from(NORMS),
    n=st.integers(1, 9),
    cut=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_encode_is_batch_invariant(kind: str, norm: InputNorm, n: int, cut: int, seed: int) -> None:
    dictionary = small(kind, input_norm=norm)
    x = 3 * noise(n, D, seed=seed)
    whole = dictionary.encode(x)
    parts = [dictionary.encode(part) for part in (x[:cut], x[cut:]) if len(part)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("said", "hook"),
    [
        ("blocks.8.hook_resid_pre", "layers.8.resid_pre"),
        ("blocks.8.hook_resid_post", "layers.8.resid_post"),
        ("blocks.0.hook_mlp_out", "layers.0.mlp_out"),
        ("blocks.0.hook_attn_out", "layers.0.attn_out"),
        ("blocks.3.mlp.hook_in", "layers.3.mlp_in"),
        ("hook_embed", "embed"),
        ("model.layers.20", "layers.20.resid_post"),
        ("model.layers.20.output", "layers.20.resid_post"),
        ("transformer.h.2.input", "layers.2.resid_pre"),
        ("model.layers.9.post_feedforward_layernorm.output", "layers.9.mlp_out"),
        ("model.layers.9.pre_feedforward_layernorm.output", "layers.9.mlp_in"),
        ("layers.4.mlp_in", "layers.4.mlp_in"),
        ("blocks.5.attn.hook_z", "blocks.5.attn.hook_z"),
        ("blocks.5.hook_mlp_in", "blocks.5.hook_mlp_in"),
        ("blocks.5.ln2.hook_normalized", "blocks.5.ln2.hook_normalized"),
        ("model.layers.9.self_attn.o_proj.input", "model.layers.9.self_attn.o_proj.input"),
        ("something.else", "something.else"),
        ("", ""),
    ],
)
def test_hook_names_are_put_into_one_grammar(said: str, hook: str) -> None:
    assert canonical_hook(said) == hook


def test_an_unknown_plugin_or_path_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        load_dictionary("saelense:somewhere")
    assert caught.value.hint == "did you mean 'saelens'?"
    (tmp_path / "gpt2-layer8").mkdir()
    with pytest.raises(NotFound) as caught:
        load_dictionary(str(tmp_path / "gpt2-layer9"))
    assert caught.value.hint == "did you mean 'gpt2-layer8'?"
    with pytest.raises(BadInput, match="no ingest plugin recognises"):
        load_dictionary(str(tmp_path / "gpt2-layer8"))
