"""One training over the workers of a Ray cluster, or of this machine: ``python train_on_ray.py --workers 2 WORDS``.

WORDS are those of ``python train.py``, with absolute paths that all machines have. A worker that is lost ends the run; with
``--retries`` Ray starts all workers again, which go on from the last checkpoint.
"""

from __future__ import annotations

import argparse

import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def train_one(words: list[str]) -> None:
    """What each worker does: Ray has given it its number and the address of the first one."""
    import sppcls

    context = ray.train.get_context()
    here, all_of_them = context.get_local_world_size(), context.get_world_size()
    machines = [f"trainer.devices={here}", f"trainer.num_nodes={all_of_them // here}"]
    sppcls.train(sppcls.compose(["trainer=ddp", *machines, "ckpt_path=auto", *words]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="one GPU for each worker")
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--storage", help="folder for Ray's own files, which all machines see")
    options, words = parser.parse_known_args()
    trainer = TorchTrainer(
        train_one,
        train_loop_config=words,
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=options.gpu),
        run_config=RunConfig(
            storage_path=options.storage, failure_config=FailureConfig(max_failures=options.retries)
        ),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
