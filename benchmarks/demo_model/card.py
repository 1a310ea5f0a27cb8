"""The model card and the dictionary card, written from figures alone; see build.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Figures = Mapping[str, Any]

MODEL_CARD = """\
# featuredb-demo

A small cased causal transformer over Python code and documentation. It is shipped with featuredb so that
`featuredb demo` runs without a network; its purpose is to have features worth looking at, not to write code.

| | |
| --- | --- |
| architecture | Llama: 4 layers of width 256, 8 heads, MLP 688, rotary positions, tied embeddings |
| parameters | {parameters:,}, as fp16 safetensors |
| tokenizer | byte-level BPE of 4,096, cased, trained on the same text; it loses nothing |
| context | 256 tokens, opened by `<|endoftext|>`, which also stands between documents |
| text | standard library of Python {python}, its tests included, and the topics of `help()` |
| training | {n_steps:,} steps of 16 x 256 tokens: {tokens_seen:,} seen |
| rows | {train_documents:,} documents, {train_tokens:,} tokens |
| optimizer | AdamW, peak rate 0.004, 100 steps of warm-up, cosine to 5% |
| seed | {seed} |

## Held-out loss

{held_out_documents} documents ({held_out_tokens:,} tokens), chosen by a hash of their names and never trained on.
Every token counts but `<|endoftext|>`. The n-grams are interpolated modified Kneser-Ney models of the very same
training rows and vocabulary.

| | nats per token | perplexity | nats per byte |
| --- | --- | --- | --- |
{losses}

## Limits

It has seen one body of text: English in docstrings and comments, and Python. It repeats names and idioms of the
standard library, knows nothing else, and writes code that does not run. Other documents of the standard library are
near relatives of the held-out ones, so its loss on other Python is higher. No use beyond demonstration and tests is
intended.

## Licence

The weights come under featuredb's own licence, MIT. The text they were trained on, which is not included, comes under
the PSF License Version 2; Python's own `LICENSE` names the parts of the library that have other terms.

## Made by

    python benchmarks/demo_model/train.py OUT --tokens {tokens_seen} --seed {seed}
    python -m benchmarks.demo_model.build OUT
"""

DICTIONARY_CARD = """\
# demo: a dictionary for featuredb-demo

A sparse autoencoder of the residual stream after the model's third layer, in sae-lens's format, trained by
featuredb's own `train` plugin.

| | |
| --- | --- |
| hook | `{hook}`, width 256 |
| features | {n_features:,} |
| architecture | batch-top-k, k = {k}; at inference a threshold (JumpReLU), as sae-lens saves it |
| text | `python-docs:tests` of Python {python}, in contexts of 256 tokens opened by `<|endoftext|>` |
| training | {trained_tokens:,} tokens, batches of {batch_size:,}, Adam at a rate of {lr} |
| seed | {seed} |

## Figures

On {tokens:,} tokens of held-out documents, which neither the model nor the dictionary was trained on:

| | |
| --- | --- |
| variance explained | {variance_explained:.3f} |
| features that fire on a token | {l0:.1f} |
| loss recovered, against zero | {recovered:.3f} |
| loss recovered, against the mean | {recovered_mean:.3f} |
| dead features | {dead:.1%}, over the {dead_tokens:,} tokens of `featuredb demo` |

Loss recovered is (L_ablated - L_dictionary) / (L_ablated - L_clean), in nats per token:

| the hook's activations | loss |
| --- | --- |
| left alone | {loss_clean:.3f} |
| replaced by the dictionary's reconstruction | {loss_dictionary:.3f} |
| replaced by zero | {loss_zero:.3f} |
| replaced by their mean | {loss_mean:.3f} |

`<|endoftext|>` keeps its own activation throughout, and is not counted.

## Limits

Its features say what this small model knows, in its own terms: many are single tokens or idioms of Python. They come
without labels. Licence: MIT, as featuredb; the text's is the PSF License Version 2.

## Made by

    python -m benchmarks.demo_model.build OUT

with OUT as in the model's card; `featuredb demo --train` trains the same again.
"""


def model_card(figures: Figures) -> str:
    """The model's README.md; figures: see build.py."""
    names = {"model": "this model", "5-gram": "5-gram", "bigram": "bigram"}
    losses = "\n".join(
        f"| {name} | {figures[f'{key}_loss']:.3f} | {figures[f'{key}_perplexity']:.1f} "
        f"| {figures[f'{key}_loss_per_byte']:.3f} |"
        for key, name in names.items()
    )
    return MODEL_CARD.format(losses=losses, **figures)


def dictionary_card(figures: Figures) -> str:
    """The dictionary's README.md; figures: those of train_dictionary.py, and Python's version."""
    return DICTIONARY_CARD.format(**figures)
