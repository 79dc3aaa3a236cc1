"""The command line: ``sppcls <verb> ...``, and ``python train.py ...`` for ``sppcls train ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from sppcls import __version__
from sppcls.errors import SppclsError

_USAGE = """\
usage: sppcls <command> [key=value ...]

Image classification with spatial pyramid pooling, for images of any size.

commands:
  train   train a classifier; the config keys are those of `sppcls train --help`
  sizes   print what a config would train, epoch by epoch, without training

options:
  -h, --help   this text, or that of a command
  --version    version

`python train.py ...` in a checkout is `sppcls train ...`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the installed ``sppcls`` command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_USAGE, end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"sppcls {__version__}")
        return 0
    commands: dict[str, Callable[[list[str]], int]] = {"train": train_command, "sizes": sizes_command}
    command = commands.get(words[0])
    if command is None:
        print(
            f"sppcls: error: {words[0]}: unknown command; choose from {', '.join(commands)}", file=sys.stderr
        )
        return 2
    return run_safely(lambda: command(words[1:]))


def train_main() -> int:
    """Entry point of ``python train.py``."""
    return run_safely(lambda: train_command(sys.argv[1:]))


def run_safely(job: Callable[[], int]) -> int:
    """Run a command; errors meant for a person become one line and an exit status."""
    try:
        return job()
    except SppclsError as error:
        return report_error(error)
    except KeyboardInterrupt:
        print("sppcls: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141


def report_error(error: SppclsError) -> int:
    """Print an error as one line; returns the exit status."""
    exit_code = getattr(error, "exit_code", None)  # of a run that was stopped, which is no error
    if str(error):
        print(f"sppcls: {'error: ' if exit_code is None else ''}{error}", file=sys.stderr)
    return 1 if exit_code is None else int(exit_code)


def train_command(words: list[str]) -> int:
    """``sppcls train``: Hydra's command line over :func:`sppcls.train`."""
    if {"-h", "--help"} & set(words):
        from sppcls.help import train_help

        print(train_help(), end="")
        return 0
    from sppcls.hydra_main import run

    return run(words)


def sizes_command(words: list[str]) -> int:
    """``sppcls sizes``: the plan of a run."""
    parser = argparse.ArgumentParser(
        prog="sppcls sizes",
        description="Print input size, batch, steps and learning rate of every epoch, and the bins of every level at "
        "each size, without training.",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for `sppcls train`")
    parser.add_argument("--config-dir", "-cd", help="folder with more configs")
    args = parser.parse_args(words)
    from sppcls.composition import compose
    from sppcls.plan import plan

    print(plan(compose(args.overrides, args.config_dir)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
