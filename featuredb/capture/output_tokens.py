"""Which output tokens a feature promotes and suppresses: its decoder row through the model's unembedding."""

from __future__ import annotations

import numpy as np
import torch

from featuredb.capture.segment import OutputTokens
from featuredb.dictionary import Dictionary

N_TOKENS = 10
CHUNK_BYTES = 1 << 26


def output_tokens(dictionary: Dictionary, unembedding: torch.Tensor, n_texts: int) -> OutputTokens:
    """The N_TOKENS largest and smallest entries of each feature's w_dec @ unembedding, of its last output.

    unembedding: (d_out, vocabulary), the final norm's gain folded in. n_texts: tokens past this have no text (padding
    rows of the embedding) and are left out. Values are logits for a unit of activation, up to the final norm's factor
    of each token. Source: "logit lens" of a direction; nostalgebraist (2020).
    """
    unembedding = unembedding.float()[:, :n_texts]
    decoder = dictionary.w_dec[:, -1].float().to(unembedding.device)
    n = min(N_TOKENS, unembedding.shape[1])
    step = max(1, CHUNK_BYTES // (4 * unembedding.shape[1]))
    parts = []
    for start in range(0, len(decoder), step):
        logits = decoder[start : start + step] @ unembedding
        parts.append((*torch.topk(logits, n, dim=1), *torch.topk(logits, n, dim=1, largest=False)))
    columns = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
    promoted_values, promoted, suppressed_values, suppressed = columns
    return OutputTokens(promoted.astype(np.int32), promoted_values, suppressed.astype(np.int32), suppressed_values)
