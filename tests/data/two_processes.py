"""Run by test_datamodule.py: two epochs on two gloo processes; each writes down what it saw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytorch_lightning as pl
import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_datamodule import Recorder, datamodule

if __name__ == "__main__":
    torch.set_num_threads(1)
    module = Recorder()
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=datamodule())
    torch.save(
        {"seen": module.seen, "validated": module.validated},
        Path(sys.argv[1]) / f"rank{trainer.global_rank}.pt",
    )
