"""The size schedule that a config asks for, and when averaging begins. Apart from the schema, which needs neither images nor torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sppcls.config.parts import values_of
from sppcls.config.schema import Config

if TYPE_CHECKING:
    from sppcls.data import SizeSchedule


def size_schedule(config: Config) -> SizeSchedule:
    """The size schedule that the config asks for."""
    from sppcls.data import make_schedule

    if (own := values_of(config.sizes)) is not None:
        from sppcls.data.own import own_schedule

        return own_schedule(own, seed=config.seed, epochs=config.trainer.max_epochs)
    return make_schedule(
        config.sizes.kind,
        config.sizes.sizes,
        seed=config.seed,
        epochs=config.trainer.max_epochs,
        period=config.sizes.period,
        step=config.sizes.step,
    )


def first_averaged(start: float, epochs: int) -> int:
    """Number of the first epoch after a share of all epochs, from 0."""
    return int(start * epochs + 1e-9)  # 0.58 of 50 is a little less than 29
