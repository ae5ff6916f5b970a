"""NT-Xent, without taking a frame's own neighbours in time for negatives.

Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations"
(SimCLR, arXiv 2002.05709), equation 1. In a demonstration the frames around an anchor show nearly
the same scene; as negatives they push apart what the table wants close together (the ALT paper's
released code does so). They are left out of the denominator here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from alt_ros.errors import ConfigurationError

PAPER_TEMPERATURE = 0.4


def nt_xent(
    first: Tensor,
    second: Tensor,
    demonstration: Tensor,
    frame: Tensor,
    *,
    temperature: float = PAPER_TEMPERATURE,
    temporal_exclusion: int = 0,
) -> Tensor:
    """Return the mean loss over both augmented copies of a batch.

    Args:
        first: (B, D) unit embeddings of one augmented copy of each frame.
        second: (B, D) unit embeddings of another copy of the same frames.
        demonstration: (B,) number of each frame's demonstration.
        frame: (B,) number of the frame in it.
        temperature: Positive; the paper's code has 0.4.
        temporal_exclusion: Frames of one demonstration no farther apart than this are not
            negatives; 0 still leaves out a second draw of the very same frame.

    Returns:
        Scalar.

    Raises:
        ConfigurationError: Temperature is not positive, or the exclusion is negative.
    """
    if temperature <= 0.0 or temporal_exclusion < 0:
        raise ConfigurationError(
            "NT-Xent: temperature must be positive and temporal_exclusion not negative, "
            f"got {temperature} and {temporal_exclusion}"
        )
    batch = len(first)
    embeddings = torch.cat([first, second])  # (2B, D)
    logits = embeddings @ embeddings.T / temperature  # (2B, 2B)
    near = (demonstration[:, None] == demonstration[None]) & (
        (frame[:, None] - frame[None]).abs() <= temporal_exclusion
    )
    left_out = near.repeat(2, 2)  # holds each anchor itself and its other copy
    positive = torch.cat([torch.arange(batch, 2 * batch), torch.arange(batch)]).to(first.device)
    left_out[torch.arange(2 * batch, device=first.device), positive] = False
    return functional.cross_entropy(logits.masked_fill(left_out, -torch.inf), positive)
