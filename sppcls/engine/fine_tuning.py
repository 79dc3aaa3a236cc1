"""What a network begins with besides its random start, and which of its parts are trained at which rate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from sppcls._util.reason import reason_of
from sppcls.config.schema import Config
from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier
from sppcls.nn.fitting import load_fitting
from sppcls.nn.parts import Frozen, check_parts, parameter_groups
from sppcls.nn.recompute import recompute_backbone
from sppcls.runs.names import BEST, LAST, no_file


def prepare_network(
    net: SPPClassifier, config: Config, classes: Sequence[str], resumed: bool
) -> list[tuple[str, str]]:
    """Load what ``init_from`` names, and check ``freeze``, ``optimizer.lr_factors`` and checkpointing against the network.

    Args:
        net: of the run.
        config: of the run.
        classes: of the run.
        resumed: its weights will come from a checkpoint, so ``init_from`` is not read and may be gone.

    Returns:
        Rows of the start table.

    Raises:
        ConfigError: a file that cannot be read or does not fit at all, a part that is not there, or nothing to train.
    """
    rows: list[tuple[str, str]] = []
    try:
        if config.init_from is not None and not resumed:
            path = _file(config.init_from)
            taken = load_fitting(net, path, classes, f"init_from={config.init_from}")
            rows.append(("weights", f"{path}: {taken}"))
            rows += _other_colours(config, taken.info)
        if config.freeze:
            frozen = len(Frozen(net, config.freeze))
            total = sum(parameter.numel() for parameter in net.parameters())
            parts = ", ".join(config.freeze)
            rows.append(("frozen", f"{parts}: {frozen:,} of {total:,} parameters{_until(config)}"))
            if not resumed and config.init_from is None and config.backbone.weights is None:
                rows.append(
                    ("warning", "what is frozen has random weights; see init_from and backbone.weights")
                )
        if config.trainer.gradient_checkpointing:
            recompute_backbone(net.backbone)
        rates = config.optimizer
        check_parts(net, rates.lr_factors, "optimizer.lr_factors")
    except ValueError as error:
        raise ConfigError(reason_of(error)) from None
    groups = parameter_groups(net, rates.lr_factors, rates.layer_decay)
    scales = dict.fromkeys(f"{group.name} {group.scale:.3g}" for group in groups if group.name)
    if scales:
        rows.append(("rates", f"{', '.join(scales)} of the base rate"))
    return rows


def _file(name: str) -> Path:
    """The file that ``init_from`` names: in a run folder the best checkpoint, or the last one."""
    path = Path(name)
    if not os.path.isdir(path):  # False, not an error, of an impossible name
        return path
    found = next((path / file for file in (BEST, LAST) if (path / file).is_file()), None)
    if found is None:
        raise ConfigError(f"init_from={name}: {no_file(path)}")
    return found


def _other_colours(config: Config, info: Any) -> list[tuple[str, str]]:
    """A warning where a checkpoint's network was trained on images that were normalised in another way."""
    words = []
    for name in ("mean", "std"):
        there, here = info.get(name), getattr(config.data, name)
        known = isinstance(there, list) and len(there) == 3 and all(isinstance(v, float | int) for v in there)
        if known and not np.allclose(there, here, rtol=0, atol=1e-6):
            words.append(f"data.{name}=[{','.join(map(str, there))}]")
    return [("warning", f"trained with other colours; type {' '.join(words)}")] if words else []


def _until(config: Config) -> str:
    if config.freeze_epochs is None:
        return ""
    frozen, epochs = config.freeze_epochs, config.trainer.max_epochs
    return f", for {frozen} of {epochs} epochs" if frozen < epochs else ", in all epochs"


class Freezing(Callback):
    """Keeps parts of the network as they are, in all epochs or in the first ones.

    Whether a part is frozen depends on the epoch alone, so a resumed run needs no state. The optimiser has all
    parameters from the start: those without a gradient it leaves alone.

    Args:
        parts: such as ``["backbone"]``.
        epochs: how many; None: all.
    """

    def __init__(self, parts: Sequence[str], epochs: int | None) -> None:
        self.parts, self.epochs = list(parts), epochs

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._frozen = Frozen(pl_module.net, self.parts)  # type: ignore[arg-type]
        # With several processes only what has gradients when training begins is ever exchanged.
        self._by_hand = trainer.world_size > 1 and self.epochs is not None
        if stage == "fit" and not self._by_hand:
            self._frozen.require_gradients(False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._apply(trainer)  # the next hook is not called within a resumed epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._apply(trainer)

    def _apply(self, trainer: pl.Trainer) -> None:
        self._now = self.epochs is None or trainer.current_epoch < self.epochs
        if not self._by_hand:
            self._frozen.require_gradients(not self._now)
        self._frozen.train(not self._now)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        if self._by_hand and self._now:
            for parameter in self._frozen.parameters:
                parameter.grad = None
