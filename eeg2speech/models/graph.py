"""Graph convolution over electrodes with a learned adjacency (Song et al. 2020, DGCNN; Defferrard et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.models.streaming import Pointwise, Stream


class ChebyshevGraph(nn.Module):
    """Chebyshev polynomials of the electrodes' normalised Laplacian, each feature a mixture of their orders.

    With adjacency A >= 0 (learned, symmetric) and L = I - D^-1/2 A D^-1/2, the polynomials are those of L - I, whose
    eigenvalues lie in [-1, 1]. Acts on every sample by itself, so it is causal and takes any length.

    Args:
        sensors: electrodes C. features: maps F an electrode. order: highest polynomial, 0 looks at no neighbour.
    """

    def __init__(self, sensors: int, features: int, order: int = 2) -> None:
        super().__init__()
        # A start near "all are neighbours" with noise: gradients then differ from electrode to electrode.
        self.adjacency = nn.Parameter(torch.randn(sensors, sensors) * 0.5)
        self.mix = nn.Parameter(torch.randn(order + 1, features) / (order + 1) ** 0.5)

    def polynomials(self) -> Tensor:
        """[order + 1, C, C]."""
        links = F.softplus(self.adjacency + self.adjacency.T)
        links = links * (1 - torch.eye(len(links), device=links.device, dtype=links.dtype))
        root = links.sum(1).clamp_min(1e-6).rsqrt()
        shifted = -root.unsqueeze(1) * links * root
        terms = [torch.eye(len(links), device=links.device, dtype=links.dtype), shifted]
        while len(terms) < len(self.mix):
            terms.append(2 * shifted @ terms[-1] - terms[-2])
        return torch.stack(terms[: len(self.mix)])

    def forward(self, eeg: Tensor) -> Tensor:
        """[B, C, N] -> [B, F * C, N]."""
        operators = torch.einsum("kf,kcd->fcd", self.mix, self.polynomials())
        return torch.matmul(operators.flatten(0, 1), eeg)

    def stream(self) -> Stream:
        """Sample by sample."""
        return _GraphStream(self)


class _GraphStream(Pointwise):
    """The number of channels changes, so that an empty chunk, too, has to pass."""

    def _push(self, x: Tensor, last: bool) -> Tensor:
        y: Tensor = self.module(x)
        return y
