"""Parts of a run that are given from Python instead of named in a config."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from sppcls._util.reason import own_line, reason_of, reason_with_line
from sppcls.config.parts import PARTS
from sppcls.config.schema import Config, default_values
from sppcls.config.schema_network import BackboneConfig, HeadConfig, PyramidConfig
from sppcls.data import Size
from sppcls.data.own import as_splits
from sppcls.errors import CheckpointError, ConfigError
from sppcls.nn import SpatialPyramidPooling2d, SPPClassifier
from sppcls.registry import GIVEN, TARGET


def _listed(name: str, parts: Any) -> list[Any]:
    if not isinstance(parts, Sequence):
        raise ConfigError(f"{name}: a {type(parts).__name__}; give a list")
    return list(parts)


def check_given(config: Config, saved: dict[str, Any], path: Path) -> None:
    """Refuse to resume a run without the network or the images that it was given from Python.

    Raises:
        CheckpointError: names the argument.
    """
    for group, argument in (("backbone", "net"), ("data", "sources")):
        if saved.get(group, {}).get("name") == GIVEN != getattr(config, group).name:
            raise CheckpointError(
                f"{path}: this run was given its {argument} from Python; give {argument}= again"
            )


def lines_on_own_parts(config: Config) -> list[str]:
    """A warning for each part that no other program can import."""
    targets = ((group, getattr(getattr(config, group), TARGET, "")) for group in PARTS)
    return [
        f"warning: {group}: {target} is defined in the program itself; in a module of its own, other programs can load it"
        for group, target in targets
        if str(target).startswith("__main__.")
    ]


class Given:
    """What :func:`sppcls.train` takes besides a config, checked.

    Raises:
        ConfigError: something of another kind.
        DataError: ``sources`` are no images.
    """

    def __init__(
        self,
        net: SPPClassifier | None = None,
        sources: Any = None,
        callbacks: Sequence[Callback] = (),
        logger: Logger | Sequence[Logger] = (),
    ) -> None:
        if net is not None and not isinstance(net, SPPClassifier):
            raise ConfigError(
                f"net: a {type(net).__name__}; wrap it: sppcls.nn.SPPClassifier(trunk, SpatialPyramidPooling2d([3, 2, 1]), head)"
            )
        self.net = net
        self.splits = None if sources is None else as_splits(sources, "sources")
        self.callbacks = [callbacks] if isinstance(callbacks, Callback) else _listed("callbacks", callbacks)
        self.loggers = [logger] if isinstance(logger, Logger) else _listed("logger", logger)
        for name, parts, kind in (("callbacks", self.callbacks, Callback), ("logger", self.loggers, Logger)):
            for part in parts:
                if not isinstance(part, kind):
                    raise ConfigError(f"{name}: a {type(part).__name__} is no Lightning {kind.__name__}")

    def in_config(self, config: Config) -> Config:
        """The config with the word ``given`` where a part is: a run of it is not taken for one of the config alone."""
        config = copy.deepcopy(config)
        if self.splits is not None:
            if config.name == config.data.name:
                config.name = GIVEN  # of the run's folder
            config.data.name = GIVEN
            if config.data.cache != "none":
                raise ConfigError("data.cache=disk: is for image files that data names; type data.cache=none")
        if self.net is not None:
            pool = self.net.pool
            pyramid: dict[str, Any] = {"levels": None}
            if isinstance(pool, SpatialPyramidPooling2d):
                levels = [list(level) for level in pool.levels]
                pyramid = {"levels": levels, "mode": pool.mode, "bin_rule": pool.bin_rule}
            config.backbone = BackboneConfig(**{**default_values(BackboneConfig), "name": GIVEN})
            config.pyramid = PyramidConfig(**{**default_values(PyramidConfig), **pyramid})
            config.head = HeadConfig(**{**default_values(HeadConfig), "name": GIVEN})
        return config

    def checked_net(self, num_classes: int, size: Size) -> SPPClassifier | None:
        """The network, if there is one; it takes images of ``size`` and tells ``num_classes`` apart.

        Raises:
            ConfigError: it does not.
        """
        if self.net is None:
            return None
        import torch

        training = self.net.training
        try:
            self.net.check_input_size(*size)
            with torch.no_grad():
                logits = self.net.eval()(torch.zeros(1, 3, *size))
        except Exception as error:  # other people's code
            own = own_line(error)[0]
            raise ConfigError(f"net: {reason_with_line(error) if own else reason_of(error)}") from error
        finally:
            self.net.train(training)
        if tuple(logits.shape) != (1, num_classes):
            raise ConfigError(
                f"net: gives {tuple(logits.shape)} for one image; {num_classes} classes need (1, {num_classes})"
            )
        return self.net
