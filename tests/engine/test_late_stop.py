"""A stop that comes when nothing is left to stop: the run ends as usual, and says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import Callback

from sppcls import compose, train

Words = Callable[..., list[str]]


class StopAt(Callback):
    """Ctrl-C at the beginning of a hook in the last epoch."""

    def __init__(self, hook: str) -> None:
        self.done = False
        setattr(self, hook, self._stop)

    def _stop(self, trainer: Any, *rest: Any) -> None:
        last_step = trainer.current_epoch + 1 >= trainer.max_epochs and (
            trainer.fit_loop.epoch_loop.batch_idx + 1 >= trainer.num_training_batches
        )
        if last_step and not self.done:
            self.done = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("hook", "on_terminal", "in_log"),
    [
        ("on_train_batch_start", "Stopping after this step (or validation)", True),
        ("on_fit_end", "Training is done; the run ends when its last figures are written", False),
    ],
)
def test_a_stop_in_the_last_steps_says_that_there_is_nothing_to_stop(
    tiny: Words, capfd: pytest.CaptureFixture[str], hook: str, on_terminal: str, in_log: bool
) -> None:
    stop = StopAt(hook)
    outcome = train(compose(tiny("trainer.max_epochs=2")), callbacks=[stop])
    assert stop.done
    folder = Path(outcome["folder"])
    assert (folder / "result.json").is_file()
    assert outcome["epochs"] == 2
    assert on_terminal in capfd.readouterr().err
    line = "SIGINT came in the last steps: nothing is left to stop, so the run ends as usual"
    assert (line in (folder / "train.log").read_text()) == in_log
