"""The network: a deep path of numbers, and of words where it reads them, beside a wide one."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from demand.features.sequences import PADDING

TextEncoder = Literal["ngrams", "gru", "attention"]


class DemandNetwork(nn.Module):
    """The deep path of a wide-and-deep MLP (Cheng et al., DLRS 2016).

    The wide path, a weight for each hashed token, is fitted beforehand by
    :mod:`demand.wide`; the deep one learns what has to be added to its logit, and begins
    by adding nothing.

    Parameters
    ----------
    width
        Number of dense features, d.
    hidden
        Sizes of the hidden layers.
    dropout
        Share of hidden units silenced in training.
    encoder
        How words are read: ``ngrams`` leaves them to the wide path.
    words
        Number of buckets of words, for the other encoders.
    embedding
        Size of a word's vector, and of what an encoder makes of a text.

    Shape
    -----
    Input: ``dense`` (n, d), ``words`` (n, length), ``wide`` (n,), the wide path's logits.
    Output: logits (n,).

    Examples
    --------
    >>> network = DemandNetwork(2, hidden=[4], dropout=0.0)
    >>> network(torch.zeros(3, 2), torch.zeros(3, 0, dtype=torch.long), torch.zeros(3)).shape
    torch.Size([3])
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: list[int],
        dropout: float,
        encoder: TextEncoder = "ngrams",
        words: int = 0,
        embedding: int = 0,
    ) -> None:
        super().__init__()
        self.encoder: nn.Module | None = None
        if encoder != "ngrams":
            kind = GruEncoder if encoder == "gru" else AttentionEncoder
            self.encoder = kind(words, embedding)
            width += embedding
        sizes = [width, *hidden, 1]
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        nn.init.zeros_(layers[-1].weight)
        nn.init.zeros_(layers[-1].bias)
        self.deep = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, dense: Tensor, words: Tensor, wide: Tensor) -> Tensor:
        """Return logits, shape (n,)."""
        x = dense if self.encoder is None else torch.cat([dense, self.encoder(words)], dim=1)
        for number, layer in enumerate(self.deep):
            x = layer(self.dropout(torch.relu(x)) if number else x)
        return wide + x[:, 0]


class AttentionEncoder(nn.Module):
    """The mean of a text's word vectors, weighted by one learnt question.

    (Yang et al., *Hierarchical attention networks*, NAACL 2016, one level.)

    Shape
    -----
    Input: (n, length) buckets, padding at the end. Output: (n, embedding).
    """

    def __init__(self, words: int, embedding: int) -> None:
        super().__init__()
        self.table = _word_table(words, embedding)
        self.question = nn.Parameter(torch.zeros(embedding))

    def forward(self, words: Tensor) -> Tensor:
        """Return a vector for each text; zeros where it has no words."""
        vectors = self.table[words]
        there = words != PADDING
        score = torch.exp(torch.clamp(vectors @ self.question, -20.0, 20.0)) * there
        share = score / score.sum(dim=1, keepdim=True).clamp(min=1e-12)
        return (share[:, :, None] * vectors).sum(dim=1)


class GruEncoder(nn.Module):
    """The last state of a gated recurrent unit that reads a text's words.

    (Cho et al., EMNLP 2014, with the gates in PyTorch's form.)

    Shape
    -----
    Input: (n, length) buckets, padding at the end. Output: (n, embedding).
    """

    def __init__(self, words: int, embedding: int) -> None:
        super().__init__()
        self.table = _word_table(words, embedding)
        self.cell = nn.GRUCell(embedding, embedding)

    def forward(self, words: Tensor) -> Tensor:
        """Return a vector for each text; zeros where it has no words."""
        state = torch.zeros(len(words), self.table.shape[1])
        longest = int((words != PADDING).sum(dim=1).max()) if words.numel() else 0
        for place in range(longest):
            word = words[:, place]
            state = torch.where(
                (word != PADDING)[:, None], self.cell(self.table[word], state), state
            )
        return state


def _word_table(words: int, embedding: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(words, embedding) * 0.1)
