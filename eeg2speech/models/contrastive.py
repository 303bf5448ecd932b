"""How features of EEG learn to be those of the speech that was heard: by telling it from other speech, or directly.

The contrastive loss is that of Defossez et al. 2023 (after Radford et al. 2021, CLIP): features of a segment keep their
time axis, and only the candidates are normalised, so that a network may say how sure it is by the length of its answer.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from eeg2speech.errors import BadInput


def similarity(eeg: Tensor, speech: Tensor) -> Tensor:
    """Scores [B, N]: inner products of EEG features [B, D, F] and candidates [N, D, F] of length one.

    A candidate of zeros has the score 0.

    Raises:
        BadInput: shapes that do not go together.
    """
    if eeg.ndim != 3 or speech.ndim != 3 or eeg.shape[1:] != speech.shape[1:]:
        expected = "EEG [batch, D, F] and speech [candidates, D, F]"
        raise BadInput("similarity", "features", expected, (list(eeg.shape), list(speech.shape)))
    # In full precision, also under autocast: a sum over a hundred thousand products decides by small differences.
    with torch.autocast(eeg.device.type, enabled=False):
        dtype = torch.promote_types(torch.float32, eeg.dtype)
        return eeg.flatten(1).to(dtype) @ F.normalize(speech.flatten(1).to(dtype), dim=-1, eps=1e-8).T


def clip_loss(eeg: Tensor, speech: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Cross-entropy (nats) of choosing, for EEG [B, D, F], candidate i for row i among all N in speech [N, D, F].

    Args:
        temperature: by which the scores are divided, 1 in the paper; a tensor can be learned.

    Raises:
        BadInput: shapes that do not go together, fewer candidates than rows, or a temperature that is not above 0.
    """
    if len(speech) < len(eeg) or not len(eeg):
        raise BadInput("clip_loss", "speech", f"at least one candidate for each of {len(eeg)} rows", len(speech))
    if isinstance(temperature, float | int) and not temperature > 0:
        raise BadInput("clip_loss", "temperature", "more than 0", temperature)
    scores = similarity(eeg, speech) / temperature
    return F.cross_entropy(scores, torch.arange(len(eeg), device=eeg.device))


def regression_loss(eeg: Tensor, speech: Tensor) -> Tensor:
    """Mean squared error of EEG features [B, D, F] to the features of the speech heard, [B, D, F].

    Raises:
        BadInput: other shapes, which would be broadcast.
    """
    if eeg.shape != speech.shape or eeg.ndim != 3:
        raise BadInput("regression_loss", "speech", f"shape {list(eeg.shape)}, as the EEG", list(speech.shape))
    return F.mse_loss(eeg, speech)


def gathered(features: Tensor) -> Tensor:
    """Candidates of all processes, own rows first: [B, ...] -> [sum of all B, ...]; the same where there is one only.

    Processes may have different numbers of rows. The gradient goes to the own rows: to the others' rows their own
    process sends what its own EEG says of them.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return features
    rows = features.new_tensor([len(features)], dtype=torch.long)
    counts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, rows)
    sizes = [int(count) for count in counts]
    padded = features.new_zeros(max(sizes), *features.shape[1:])
    padded[: len(features)] = features.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    own = distributed.get_rank()
    others = [part[:size] for rank, (part, size) in enumerate(zip(parts, sizes, strict=True)) if rank != own]
    return torch.cat([features, *others])
