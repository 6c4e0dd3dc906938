"""Learning from very many ads: wide and deep path together, each ad once.

An ad's answer before it is learnt from is that to a new ad, so that the deep path sees the wide
one's mistakes as they will be, for nothing. Adagrad (Duchi et al., JMLR 2011) gives a bucket that
is seen ten times the steps that it needs beside one that is seen in every ad.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as processes
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

from demand.config import OnePassSettings
from demand.features.feature_set import FeatureSet
from demand.features.training_ads import TrainingAds
from demand.model.network import DemandNetwork, Wide, logit_of_mean
from demand.progress import report

_WARMUP_SHARE = 0.02  # of all steps


class _BothPaths(nn.Module):
    """Wide and deep path as one, whose slopes several processes share."""

    def __init__(self, buckets: int, network: DemandNetwork, bias: float) -> None:
        super().__init__()
        zeros = torch.zeros(buckets, 1)  # given, so that no random numbers are drawn
        self.table: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
            zeros, freeze=False, sparse=True
        )
        self.network, self.bias = network, bias

    def forward(self, row: Tensor, bucket: Tensor, weight: Tensor, dense: Tensor) -> Tensor:
        """Return the logits of n ads, shape (n,), with the tokens of these rows."""
        sums = torch.zeros(len(dense), device=dense.device)
        sums = sums.index_add(0, row, self.table(bucket)[:, 0] * weight)
        logits: Tensor = self.network(dense, sums + self.bias)
        return logits


def learn_once(
    features: FeatureSet,
    ads: TrainingAds,
    settings: OnePassSettings,
    seed: int,
    device: torch.device,
    report: Callable[[float, float], None] = report,
) -> tuple[DemandNetwork, Wide, float]:
    """Learn from each training ad once; return both paths, and the mean loss of the ads before.

    ``ads`` are those of ``features``, which has no tokens of them. In each process of a torch
    process group, where there is one, this learns from a part of each batch, and has the same
    result in all.
    """
    grouped = processes.is_initialized()
    rank, size = (processes.get_rank(), processes.get_world_size()) if grouped else (0, 1)
    builder, target = features.builder, features.training.target
    dense, wanted = features.training.features.dense, target.astype(np.float32)
    network = DemandNetwork(builder.width, hidden=settings.hidden, dropout=0.0)
    both = _BothPaths(builder.settings.table_size, network, logit_of_mean(target)).to(device)
    shared = DistributedDataParallel(both) if grouped else both
    table = both.table.weight
    adagrad = torch.optim.Adagrad(
        [table], lr=settings.wide_learning_rate, initial_accumulator_value=1.0
    )
    adam = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    steps = -(-ads.rows // settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: min(1.0, (step + 1) / (_WARMUP_SHARE * steps)) * max(1 - step / steps, 0)
    )

    def there(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(device)

    done, total = 0, torch.zeros((), dtype=torch.float64)
    # Said either way, torch does not warn about the sparse slopes that it makes itself.
    with torch.sparse.check_sparse_tensor_invariants(enable=False):  # type: ignore[no-untyped-call]
        for batch_position, batch in ads.batches(settings.batch_size, np.random.default_rng(seed)):
            n = len(batch_position)
            part = slice(rank * n // size, (rank + 1) * n // size)
            position = batch_position[part]
            tokens = builder.transform_block(builder.encode(batch.part(part))).sparse
            read = there(tokens.row), there(tokens.bucket), there(tokens.weight)
            logits = shared(*read, there(dense[position]))
            # The sum, since a bucket's step must not hang on the ads of the batch without it.
            loss = binary_cross_entropy_with_logits(
                logits, there(wanted[position]), reduction="sum"
            )
            adam.zero_grad()
            adagrad.zero_grad()
            # What a group shares is the mean of its slopes.
            (loss * size).backward()  # type: ignore[no-untyped-call]
            adam.step()
            adagrad.step()
            schedule.step()
            total += loss.detach().cpu()
            done += n
            report(done, ads.rows)
    if grouped:
        processes.all_reduce(total)
    weight = table.detach().cpu().numpy()[:, 0].astype(np.float64)
    # Squared slopes that a weight has seen: how much was learnt about it.
    seen = adagrad.state[table]["sum"].cpu().numpy()[:, 0]
    wide = Wide(weight, both.bias).best(np.abs(weight) * np.sqrt(seen), settings.wide_weights)
    return network, wide, float(total) / ads.rows
