"""Two-layer random models and a small tokenizer, made on the spot: what tests run instead of downloads."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

WIDTH = 32
LAYERS = 2
LINES = (
    "The cat sat on the mat, and the dog sat by the door.",
    "def area(width, height):\n    return width * height\n",
    "IN CAPITALS: NOTHING IS LOST, 1234567890 + 1 = 1234567891.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
)

_SHAPE = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2}
_SLIDING = {**_GROUPED, "head_dim": 8, "sliding_window": 64}
# Config class, model class, settings. Written as names, so that nothing is imported before a test asks.
_KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 128}),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", _SHAPE),
    "llama": ("LlamaConfig", "LlamaForCausalLM", _GROUPED),
    "mistral": ("MistralConfig", "MistralForCausalLM", _GROUPED),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**_GROUPED, "head_dim": 8}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {**_SLIDING, "query_pre_attn_scalar": 8}),
    "gemma3_text": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**_SLIDING, "query_pre_attn_scalar": 8}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {**_GROUPED, "pad_token_id": 0}),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", _GROUPED),
    "bert": ("BertConfig", "BertModel", _SHAPE),
    "esm": ("EsmConfig", "EsmModel", {**_SHAPE, "pad_token_id": 0, "mask_token_id": 1}),
    "mamba": ("MambaConfig", "MambaForCausalLM", {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "state_size": 4}),
}
KINDS = tuple(_KINDS)
"""Every kind that `tiny` knows; the last one, Mamba, has no attention."""


@cache
def _backend() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES * 3, trainer)
    return str(tokenizer.to_str())


def tiny_tokenizer() -> Any:
    """A byte-level BPE tokenizer of some 300 tokens; <|endoftext|> (id 0) is its BOS, EOS and padding."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_backend()), bos_token=end, eos_token=end, pad_token=end
    )


def tiny(kind: str, *, seed: int = 0, **settings: Any) -> tuple[Any, Any]:
    """A random model of a kind, in evaluation mode, and the tokenizer that fits it.

    kind: one of KINDS. settings: more of its config, such as num_hidden_layers. The same seed gives the same weights.
    """
    import transformers

    config_class, model_class, shape = _KINDS[kind]
    tokenizer = tiny_tokenizer()
    config = getattr(transformers, config_class)(
        **{
            "vocab_size": len(tokenizer),
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": None,
            **shape,
            **settings,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, model_class)(config).eval()
        _liven(model)
    return model, tokenizer


def save_tiny(path: Path, kind: str, *, seed: int = 0, **settings: Any) -> Path:
    """The folder of such a model and its tokenizer, as save_pretrained writes them."""
    model, tokenizer = tiny(kind, seed=seed, **settings)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@torch.no_grad()
def _liven(model: torch.nn.Module) -> None:
    """Redraws the weights larger: at their usual start, a norm's gain is 1, a bias 0 and every branch nearly 0."""
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.15)
