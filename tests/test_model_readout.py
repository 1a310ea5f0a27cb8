"""The folded unembedding, held to the logits of the model itself."""

from __future__ import annotations

import pytest
import torch

from featuredb.model import Model, model_from
from featuredb.model.readout import final_norm, measured_norm
from tests.tiny_models import tiny

CAUSAL = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2")


@pytest.mark.parametrize("kind", CAUSAL)
def test_last_stream_times_unembedding_gives_the_logits(kind: str) -> None:
    model = model_from(*tiny(kind), name=kind)
    ids = torch.arange(2, 14)[None]
    with torch.no_grad():
        logits = model.module(input_ids=ids).logits[0].double()
    stream = model.run(ids, torch.ones_like(ids, dtype=torch.bool), ["layers.1.resid_post"])["layers.1.resid_post"][0]
    unembedding = model.unembedding()
    assert unembedding is not None
    assert unembedding.shape == (model.d_model, model.vocab_size)
    cap = getattr(model.module.config, "final_logit_softcapping", None)
    if cap:
        logits = torch.atanh(logits / cap) * cap
    # A norm is linear up to one factor per token; biases leave with the difference of two tokens' directions.
    _, centres = norm_of(model)
    scale = (stream.var(-1, unbiased=False) if centres else stream.pow(2).mean(-1)).sqrt()
    direct = (stream / scale[:, None]).double() @ unembedding.double()
    torch.testing.assert_close(direct[1:] - direct[:1], logits[1:] - logits[:1], rtol=1e-3, atol=1e-3)


def norm_of(model: Model) -> tuple[torch.Tensor, bool]:
    norm = final_norm(model.module, model.hook_map.blocks)
    assert norm is not None
    with torch.inference_mode():
        return measured_norm(norm, model.d_model)


@pytest.mark.parametrize(("kind", "offset", "centring"), [("llama", 0, False), ("gemma2", 1, False), ("gpt2", 0, True)])
def test_gain_is_measured_whatever_the_class_stores(kind: str, offset: int, centring: bool) -> None:
    model = model_from(*tiny(kind), name=kind)
    norm = final_norm(model.module, model.hook_map.blocks)
    assert norm is not None
    gain, centres = norm_of(model)
    torch.testing.assert_close(gain, offset + norm.get_parameter("weight").detach())
    assert centres is centring


@pytest.mark.parametrize("kind", ["bert", "esm"])
def test_models_without_a_head_have_no_unembedding(kind: str) -> None:
    assert model_from(*tiny(kind), name=kind).unembedding() is None


def test_a_head_with_layers_of_its_own_is_no_unembedding() -> None:
    from transformers import EsmForMaskedLM

    body, tokenizer = tiny("esm")
    assert model_from(EsmForMaskedLM(body.config), tokenizer, "esm").unembedding() is None


def test_half_precision_stays_half_precision() -> None:
    module, tokenizer = tiny("llama")
    exact = model_from(module, tokenizer, "llama").unembedding()
    half = model_from(module.to(torch.bfloat16), tokenizer, "llama").unembedding()
    assert exact is not None
    assert half is not None
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=2e-2, atol=2e-2)
