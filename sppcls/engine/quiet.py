"""Lightning's chatter, kept out of the way."""

from __future__ import annotations

import logging
import warnings

from sppcls.nn import LevelLargerThanMapWarning


def quiet_lightning() -> None:
    """Keep Lightning's start-up chatter and the warnings that do not apply out of the way."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Said in the start-up table.
    warnings.filterwarnings("ignore", category=LevelLargerThanMapWarning)
    # A step whose images cannot be read is left out on purpose.
    warnings.filterwarnings("ignore", message=".*training_step. returned .None.*")
    # Ours is: the sampler finds its place from the checkpoint's counters.
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
    # Another command may resume with other callbacks.
    warnings.filterwarnings(
        "ignore", message=".*callbacks used to create the checkpoint need to be provided.*"
    )
    # Every figure is one of all processes before it is logged.
    warnings.filterwarnings("ignore", message=".*on epoch level in distributed setting.*")
    # Normalisation layers of parts that are frozen.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
