"""Random models and dictionaries of a given shape, and the ingest of one over Python's own documentation.

Speed does not depend on what the weights say, so nothing is trained and nothing is downloaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import Bench
from featuredb.demo.tour import model_folder

if TYPE_CHECKING:
    from featuredb.capture.plan import Plan

CORPUS = "python-docs"


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that cost time."""

    name: str
    n_layers: int
    width: int
    hook: str
    n_features: int
    k: int
    n_tokens: int
    context_length: int = 128


def gpt2_small(bench: Bench) -> Shape:
    """GPT-2 small read after layer 8, as public dictionaries of 24,576 features read it."""
    if bench.quick:
        return Shape("gpt2-small", 10, 64, "layers.8.resid_post", 1024, 16, 8192)
    return Shape("gpt2-small", 12, 768, "layers.8.resid_post", 24_576, 64, 65_536)


def make_model(bench: Bench, shape: Shape, *, head: bool) -> Path:
    """A folder with a GPT-2 of random weights and the demo model's tokenizer.

    head: whether it has a language-model head, without which a run has no promoted tokens to find.
    """
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Model

    folder = bench.folder / f"{shape.name}-{'lm' if head else 'base'}"
    if not folder.exists():
        torch.manual_seed(0)
        config = GPT2Config(n_layer=shape.n_layers, n_embd=shape.width, n_head=max(1, shape.width // 64))
        (GPT2LMHeadModel if head else GPT2Model)(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(model_folder()).save_pretrained(folder)
    return folder


def make_dictionary(bench: Bench, shape: Shape) -> Path:
    """A folder with a top-k dictionary of random weights, as sae-lens writes it."""
    import torch
    from safetensors.torch import save_file

    folder = bench.folder / f"{shape.name}-dictionary"
    if not folder.exists():
        folder.mkdir()
        torch.manual_seed(1)
        decoder = torch.nn.functional.normalize(torch.randn(shape.n_features, shape.width), dim=1)
        tensors = {
            "W_enc": decoder.T.contiguous(),
            "b_enc": torch.randn(shape.n_features) / 100,
            "W_dec": decoder,
            "b_dec": torch.zeros(shape.width),
        }
        save_file(tensors, folder / "sae_weights.safetensors")
        (folder / "cfg.json").write_text(json.dumps(_config(shape)), encoding="utf-8")
    return folder


def make_plan(shape: Shape, model: Path, dictionary: Path) -> Plan:
    """The run, its model and dictionary loaded; all else as the command line would have it."""
    from featuredb.capture.ingest import prepare
    from featuredb.capture.request import CorpusRequest, IngestRequest, ModelRequest

    return prepare(
        IngestRequest(
            ModelRequest(str(model), device="cpu"),
            (f"saelens:{dictionary}",),
            CorpusRequest(CORPUS, shape.n_tokens),
            name=shape.name,
        )
    )


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architecture": "topk",
        "d_in": shape.width,
        "d_sae": shape.n_features,
        "k": shape.k,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {
            "sae_lens_version": "6.40.0",
            "hook_name": shape.hook,
            "context_size": shape.context_length,
            "prepend_bos": True,
        },
    }
