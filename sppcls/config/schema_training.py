"""Config keys of the training: loss, update of the weights, length, devices, tests and log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sppcls.config.key import documented, key
from sppcls.registry import LOSSES, OPTIMIZERS, SCHEDULERS


@documented
@dataclass
class LossConfig:
    """From class scores and targets to the loss of each image.

    Args:
        name: loss
        class_weights: null, balanced, numbers in the order of the classes, or {class: number} (cross_entropy)
    """

    name: str = key(choices=LOSSES)
    class_weights: Any = key(None)


@documented
@dataclass
class OptimizerConfig:
    """Weight update.

    Args:
        name: update rule
        lr: base learning rate
        weight_decay: L2 penalty (sgd) or decoupled decay (adamw)
        momentum: momentum (sgd)
        nesterov: Nesterov momentum (sgd)
        betas: running average coefficients (adamw)
        decay_norm_and_bias: apply weight decay to biases and normalisation too
        bias_lr_factor: learning rate of biases over that of weights
        lr_factors: learning rate of parts over the base rate, such as {backbone: 0.1}
        layer_decay: learning rate of each layer of the backbone over that of the one above; null: 1
    """

    name: str = key(choices=OPTIMIZERS, changes="state")
    lr: float = key(above=0)
    weight_decay: float = key(0.0, low=0)
    momentum: float = key(0.0, low=0, high=0.9999)
    nesterov: bool = key(False)
    betas: list[float] = key([0.9, 0.999])
    decay_norm_and_bias: bool = key(False)
    bias_lr_factor: float = key(1.0, low=0)
    lr_factors: dict[str, float] = key({}, changes="state")
    layer_decay: float | None = key(None, above=0, high=1, changes="state")


@documented
@dataclass
class SchedulerConfig:
    """Learning rate over time.

    Args:
        name: rule
        factor: what the rate is multiplied by at each drop (paper, step)
        patience: epochs without a better val/top1_error before a drop (paper)
        max_drops: number of drops (paper: two)
        milestones: drops at these shares of the training (step), in 0..1
        warmup_epochs: linear warm-up
        final_factor: rate at the end over the base rate (cosine)
    """

    name: str = key(choices=SCHEDULERS)
    factor: float = key(0.1, above=0, high=1)
    patience: int = key(5, low=0)
    max_drops: int = key(2, low=0)
    milestones: list[float] = key([0.5, 0.75])
    warmup_epochs: float = key(0, low=0)
    final_factor: float = key(0.0, low=0, high=1)


@documented
@dataclass
class EmaConfig:
    """Exponential moving average of the weights; evaluated and kept in place of the raw weights.

    Args:
        enabled: keep the average
        decay: decay per optimiser step
    """

    enabled: bool = key(False, changes="state")
    decay: float = key(0.999, low=0, high=0.999999)


@documented
@dataclass
class SwaConfig:
    """Stochastic weight averaging: the mean of the weights after each of the last epochs, evaluated and kept.

    Args:
        enabled: keep the mean
        start: share of the epochs after which it begins
        batch_norm_images: training images that give batch norm its statistics, before each validation; 0: they are averaged
    """

    enabled: bool = key(False, changes="state")
    start: float = key(0.75, low=0, high=0.99)
    batch_norm_images: int = key(1024, low=0)


@documented
@dataclass
class EvaluationConfig:
    """Test protocols (He et al. 2015, sec. 3.1 and 3.1.5), besides the validation after every epoch.

    Args:
        protocols: run at the end of training, such as [full,ten_view]; null: none; see sppcls evaluate --help
        every: epochs between runs of them; null: at the end only
    """

    protocols: list[str] | None = key(None, changes="tests")
    every: int | None = key(None, low=1, changes="tests")


@documented
@dataclass
class TrainerConfig:
    """How long and on what.

    Args:
        max_epochs: epochs
        accelerator: device kind
        devices: how many devices, or auto
        num_nodes: machines
        strategy: auto, or ddp: a process for every device
        timeout: seconds without a sign of life after which a process that torchrun or srun has started counts as lost
        precision: arithmetic
        accumulate_grad_batches: steps per optimiser update
        gradient_clip_norm: largest norm of the gradient; null: none
        deterministic: only deterministic kernels (CPU runs are reproducible without it)
        compile: torch.compile, one graph per size
        gradient_checkpointing: less memory: keep the inputs of the backbone's blocks only, and compute the rest twice
        sync_batchnorm: batch norm over all devices
        limit_train_batches: at most this many steps per epoch
        limit_val_batches: at most as many validation images as this many batches hold, spread over the classes
        val_every: epochs between validations
        threads: CPU threads; null: torch's choice
    """

    max_epochs: int = key(8, low=1, changes="length")
    accelerator: str = key("auto", choices=("auto", "cpu", "gpu"), changes="speed")
    devices: Any = key(1)
    num_nodes: int = key(1, low=1)
    strategy: str = key("auto", choices=("auto", "ddp"), changes="speed")
    timeout: float = key(40.0, low=5, changes="speed")
    precision: str = key("32-true", choices=("32-true", "bf16-mixed", "16-mixed"))
    accumulate_grad_batches: int = key(1, low=1)
    gradient_clip_norm: float | None = key(None, above=0)
    deterministic: bool = key(False, changes="speed")
    compile: bool = key(False, changes="speed")
    gradient_checkpointing: bool = key(False, changes="speed")
    sync_batchnorm: bool = key(False)
    limit_train_batches: int | None = key(None, low=1)
    limit_val_batches: int | None = key(None, low=1)
    val_every: int = key(1, low=1)
    threads: int | None = key(None, low=1, changes="speed")


@documented
@dataclass
class LogConfig:
    """What is written beside the checkpoints.

    Args:
        every_n_steps: steps between points of the training curves
        images: inputs, confusion matrix, worst mistakes and what the pyramid saw in TensorBoard
        progress: bar on a terminal, lines elsewhere (auto), or always one of them
        save_every_minutes: also save last.ckpt within an epoch; null: only at its end
    """

    every_n_steps: int = key(20, low=1, changes="log")
    images: bool = key(True, changes="log")
    progress: str = key("auto", choices=("auto", "bar", "lines"), changes="log")
    save_every_minutes: float | None = key(15, above=0, changes="log")
