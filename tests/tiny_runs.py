"""A run small enough for a test, and waiting for what a running program does."""

from __future__ import annotations

import time
from collections.abc import Callable

from forked import Program

# A real run of the real program, only small: 48 generated images, two sizes, two epochs.
TINY = [
    "data.num_train=48",
    "data.num_val=40",
    "data.batch_size=16",
    "data.workers=0",
    "sizes.sizes=[96,72]",
    "pyramid=l321",
    "backbone.width=0.0625",
    "head.hidden=[16]",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.threads=1",
    "log.images=false",
]


def wait_until(happened: Callable[[], bool], process: Program) -> None:
    deadline = time.monotonic() + 400
    begun = time.monotonic()
    while not happened():
        now = time.monotonic()
        assert process.poll() is None, process.communicate()[0]
        assert now < deadline
        # To look into a checkpoint takes longer than to see a file; the program needs the core.
        time.sleep(max(0.005, 2 * (now - begun)))
        begun = time.monotonic()
