"""Learning from very many ads: wide and deep path together, each ad once.

An ad's answer before it is learnt from is that to a new ad, so that the deep path sees the wide
one's mistakes as they will be, for nothing. Adagrad (Duchi et al., JMLR 2011) gives a bucket that
is seen ten times the steps that it needs beside one that is seen in every ad.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, embedding

from demand.config import OnePassSettings
from demand.features.feature_set import FeatureSet
from demand.features.training_ads import TrainingAds
from demand.model.network import DemandNetwork, Wide, logit_of_mean
from demand.progress import report

_WARMUP_SHARE = 0.02  # of all steps


def learn_once(
    features: FeatureSet, ads: TrainingAds, settings: OnePassSettings, seed: int
) -> tuple[DemandNetwork, Wide, float]:
    """Learn from each training ad once; return both paths, and the mean loss of the ads before.

    ``ads`` are those of ``features``, which has no tokens of them.
    """
    builder, target = features.builder, features.training.target
    dense = torch.from_numpy(features.training.features.dense)
    wanted = torch.from_numpy(target).float()
    network = DemandNetwork(builder.width, hidden=settings.hidden, dropout=0.0)
    table = torch.nn.Parameter(torch.zeros(builder.settings.table_size, 1))
    bias = logit_of_mean(target)
    adagrad = torch.optim.Adagrad(
        [table], lr=settings.wide_learning_rate, initial_accumulator_value=1.0
    )
    adam = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    steps = -(-ads.rows // settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: min(1.0, (step + 1) / (_WARMUP_SHARE * steps)) * max(1 - step / steps, 0)
    )
    done, total = 0, 0.0
    # Said either way, torch does not warn about the sparse slopes that it makes itself.
    with torch.sparse.check_sparse_tensor_invariants(enable=False):  # type: ignore[no-untyped-call]
        for position, batch in ads.batches(settings.batch_size, np.random.default_rng(seed)):
            tokens = builder.transform_block(builder.encode(batch)).sparse
            weights = embedding(torch.from_numpy(tokens.bucket), table, sparse=True)[:, 0]
            sums = torch.zeros(len(position)).index_add(
                0, torch.from_numpy(tokens.row), weights * torch.from_numpy(tokens.weight)
            )
            logits = network(dense[position], sums + bias)
            # The sum, since a bucket's step must not hang on the ads of the batch without it.
            loss = binary_cross_entropy_with_logits(logits, wanted[position], reduction="sum")
            adam.zero_grad()
            adagrad.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            adagrad.step()
            schedule.step()
            total += float(loss.detach())
            done += len(position)
            report(done, ads.rows)
    weight = table.detach().numpy()[:, 0].astype(np.float64)
    # Squared slopes that a weight has seen: how much was learnt about it.
    seen = adagrad.state[table]["sum"].numpy()[:, 0]
    wide = Wide(weight, bias).best(np.abs(weight) * np.sqrt(seen), settings.wide_weights)
    return network, wide, total / ads.rows
