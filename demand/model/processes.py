"""Learning in several processes: torch's DistributedDataParallel, under its ``torchrun``.

Each process makes the features of its part of every batch, and all take the same steps.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as group
from safetensors.numpy import load_file, save_file
from torch.distributed.elastic.multiprocessing.errors import record

from demand.config import FeatureSettings, TrainingSettings
from demand.data.typed import TypedAds
from demand.errors import ModelError
from demand.features.feature_set import FeatureSet
from demand.features.training_ads import TrainingAds
from demand.model.devices import deterministic
from demand.model.network import DemandNetwork, Wide
from demand.model.one_pass import learn_once
from demand.progress import report

_TASK, _ARRAYS, _LEARNT = "task.json", "arrays.safetensors", "learnt.safetensors"
_SAID = "stderr.txt"
_WAIT_MAX = timedelta(minutes=10)  # for a process that hangs


def learn_in_processes(
    features: FeatureSet, ads: TrainingAds, settings: TrainingSettings, seed: int
) -> tuple[DemandNetwork, Wide, float]:
    """Do as :func:`learn_once`, in ``settings.processes`` of them.

    Raises
    ------
    ModelError
        One of them failed.
    ValueError
        The ads are not in a file.
    """
    path, rows = ads.stored()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = FeatureSet(features.builder, features.training, features.fold, None).to_arrays()
        save_file(arrays | {"rows": rows}, folder / _ARRAYS)
        task = {
            "ads": str(path.resolve()),
            "features": features.builder.settings.model_dump(),
            "training": settings.model_dump(),
            "seed": seed,
        }
        (folder / _TASK).write_text(json.dumps(task))
        _run(folder, settings)
        learnt = load_file(folder / _LEARNT)
    wide = Wide(learnt.pop("wide.table"), float(learnt.pop("wide.bias")[0]))
    loss = float(learnt.pop("loss")[0])
    hidden = settings.one_pass.hidden
    network = DemandNetwork(features.builder.width, hidden=hidden, dropout=0.0)
    network.load_state_dict({k: torch.from_numpy(array) for k, array in learnt.items()})
    return network, wide, loss


def _run(folder: Path, settings: TrainingSettings) -> None:
    # By a file they find each other without a port that others could connect to.
    meeting = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file"]
    meeting.append(f"--rdzv-endpoint={folder / 'meeting'}")
    command = [sys.executable, "-m", "torch.distributed.run", *meeting]
    command += [f"--nproc-per-node={settings.processes}", "-m", __name__, str(folder)]
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    environment = os.environ | {
        "GLOO_SOCKET_IFNAME": loopback,
        "OMP_NUM_THREADS": str(settings.threads),
    }
    with (
        (folder / _SAID).open("w") as said,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment
        ) as run,
    ):
        try:
            for line in run.stdout or ():
                done, total = map(float, line.split())
                report(done, total)
        except BaseException:
            run.terminate()
            raise
    if run.returncode:
        last = (folder / _SAID).read_text().strip().splitlines()[-20:]
        raise ModelError(
            f"training in {settings.processes} processes failed; training.processes: 1 does "
            "without. It ended with\n" + "\n".join(last)
        )


@record  # so that torchrun tells the reason
def main() -> None:
    """Learn as one of the processes, from what :func:`learn_in_processes` left in a folder."""
    folder = Path(sys.argv[1])
    task, arrays = json.loads((folder / _TASK).read_text()), load_file(folder / _ARRAYS)
    ads = TrainingAds(TypedAds(Path(task["ads"])), arrays.pop("rows"))
    features = FeatureSet.from_arrays(FeatureSettings(**task["features"]), arrays)
    settings, rank = TrainingSettings(**task["training"]), int(os.environ["RANK"])
    group.init_process_group(
        "gloo",  # of all that torch has it alone adds up sparse slopes
        init_method=f"file://{folder / 'group'}",
        rank=rank,
        world_size=settings.processes,
        timeout=_WAIT_MAX,
    )

    def told(done: float, total: float) -> None:
        if rank == 0:  # where nobody reads it any more, this fails, and with it all processes
            print(done, total, flush=True)

    with deterministic(task["seed"], settings) as device:
        network, wide, loss = learn_once(
            features, ads, settings.one_pass, task["seed"], device, told
        )
    if rank == 0:
        learnt = {name: array.cpu().numpy() for name, array in network.state_dict().items()}
        learnt |= {"wide.table": wide.table, "wide.bias": np.array([wide.bias])}
        save_file(learnt | {"loss": np.array([loss])}, folder / _LEARNT)
    group.destroy_process_group()


if __name__ == "__main__":
    main()
