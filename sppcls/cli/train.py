"""``sppcls train``: Hydra's command line over :func:`sppcls.train`."""

from __future__ import annotations

from sppcls._util.signals import keep, warnings


def run(words: list[str]) -> int:
    """Train; ``words`` are Hydra's arguments."""
    if {"-h", "--help"} & set(words):
        from sppcls.cli.train_help import train_help

        print(train_help(everything="all" in words), end="")
        return 0
    keep(warnings())
    from sppcls.sweeps.job import stop_without_parent

    stop_without_parent()
    from sppcls._util.allocator import let_idle_threads_sleep

    let_idle_threads_sleep()
    from sppcls.cli.hydra import run as run_hydra

    return run_hydra(words)
