"""The network: a wide linear path beside a deep one, over hashed tokens and numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The deal probability itself, and two auxiliary questions that share its layers in
# training: was there any chance of a deal (y > 0), was it likely (y > 0.5)?
HEADS = 3


class DemandNetwork(nn.Module):
    """Wide-and-deep MLP (Cheng et al., *Wide & deep learning*, DLRS 2016).

    Parameters
    ----------
    buckets
        Number of hash buckets of the sparse part.
    width
        Number of dense features, d.
    hidden
        Sizes of the hidden layers.
    dropout
        Share of hidden units silenced in training.
    prior
        Mean target, where the network starts from; in (0, 1).

    Shape
    -----
    Input: ``buckets`` (m,) and ``weights`` (m,) of all tokens, ``starts`` (n,), where
    each ad's tokens begin; ``dense`` (n, d). Output: logits (n, 3).

    Examples
    --------
    >>> network = DemandNetwork(8, 2, hidden=[4], dropout=0.0, prior=0.14)
    >>> token = torch.tensor([1, 5, 7])
    >>> network(token, torch.ones(3), torch.tensor([0, 2]), torch.zeros(2, 2)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self, buckets: int, width: int, *, hidden: list[int], dropout: float, prior: float
    ) -> None:
        super().__init__()
        # One table serves both paths: the first columns go straight into the logits,
        # the rest into the first hidden layer. One pass over the tokens is enough.
        self.table = nn.Parameter(torch.empty(buckets, HEADS + hidden[0]))
        self.first = nn.Linear(width, hidden[0])
        self.wide = nn.Linear(width, HEADS)
        self.deep = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(hidden, [*hidden[1:], HEADS], strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.table[:, HEADS:], std=0.02)
        with torch.no_grad():
            self.table[:, :HEADS] = 0.0
            nn.init.zeros_(self.wide.weight)
            self.wide.bias.fill_(float(torch.logit(torch.tensor(prior), eps=1e-4)))

    def forward(self, buckets: Tensor, weights: Tensor, starts: Tensor, dense: Tensor) -> Tensor:
        """Return logits, shape (n, 3)."""
        tokens = nn.functional.embedding_bag(
            buckets, self.table, starts, per_sample_weights=weights, mode="sum"
        )
        x = tokens[:, HEADS:] + self.first(dense)
        for layer in self.deep:
            x = layer(self.dropout(torch.relu(x)))
        logits: Tensor = x + tokens[:, :HEADS] + self.wide(dense)
        return logits
