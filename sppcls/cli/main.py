"""The command line: ``sppcls <verb> ...``, and ``python train.py ...`` for ``sppcls train ...``."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from sppcls._util.console import one_line
from sppcls._util.near import suggest
from sppcls._util.processes import let_the_first_speak
from sppcls._version import __version__
from sppcls.errors import ConfigError, SppclsError

# Each is a module of sppcls.cli with a function ``run``.
COMMANDS = {
    "train": "train a classifier: `sppcls train --help` lists the config keys",
    "sizes": "print what a config would train, epoch by epoch, without training",
    "lr": "try rising learning rates for a few steps, and suggest one",
    "doctor": "look at installation, machine and images for what could go wrong",
    "search": "look for good values of config keys; bad trials are stopped early",
    "shards": "write images into tar files with an index, on a disk or far away",
    "evaluate": "measure a checkpoint: test protocols, error against image size",
    "ensemble": "measure several checkpoints together and each alone",
    "compare": "group finished runs by what was varied, and say what they show",
    "board": "start TensorBoard laid out for a comparison of runs",
    "predict": "classify images of any size",
    "features": "write the outputs of a layer for many images to a file",
    "transfer": "judge the features of a layer by a linear SVM on other data",
    "export": "write a network of any image size for ONNX Runtime or torch.export",
    "detect": "find objects: train on boxes, evaluate, draw boxes on photos",
    "explain": "draw what the pyramid saw in a photo",
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "".join(f"  {name:<{width}}   {text}\n" for name, text in COMMANDS.items())
    return (
        "usage: sppcls <command> ...\n\n"
        "Image classification with spatial pyramid pooling, for images of any size.\n"
        "`sppcls <command> --help` has the arguments of a command.\n\n"
        "examples:\n"
        "  sppcls train                 on generated images, in minutes\n"
        "  sppcls train --data PHOTOS   PHOTOS/train/CLASS/*.jpg, PHOTOS/val/CLASS/*.jpg\n"
        "  sppcls predict runs/shapes/NAME/best.ckpt photo.jpg\n\n"
        f"commands:\n{rows}\n"
        "options:\n  -h, --help   this text\n  --version    version\n\n"
        "`python train.py ...` in a checkout is `sppcls train ...`.\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the installed ``sppcls`` command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"] and len(words) > 1:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage(), end="")
        return 0 if words else 1
    if words[0] == "--version":
        return _print_version()
    if words[0].startswith("-"):
        option = words[0].partition("=")[0]
        near = suggest(option, ["--help", "--version"])
        hint = f"unknown option{near}; those of a command stand after it: sppcls COMMAND {option}"
        return report_error(ConfigError(f"{option}: {hint}; see sppcls --help"))
    if words[0] not in COMMANDS:
        near = suggest(words[0], COMMANDS)
        return report_error(
            ConfigError(f"{words[0]}: unknown command{near}; choose from {', '.join(COMMANDS)}")
        )
    return _run_command(words[0], words[1:])


def _run_command(name: str, words: list[str]) -> int:
    # For every command, and before Hydra, which would print its own.
    if "--version" in words[: words.index("--") if "--" in words else None]:
        return _print_version()
    return run_safely(lambda: _command(name)(words))


def _print_version() -> int:
    print(f"sppcls {__version__}")
    return 0


def _command(name: str) -> Callable[[list[str]], int]:
    run: Callable[[list[str]], int] = import_module(f"sppcls.cli.{name}").run
    return run


def train_main() -> int:
    """Entry point of ``python train.py``."""
    return _run_command("train", sys.argv[1:])


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
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        where = f"{error.filename}: " if error.filename else ""
        return report_error(SppclsError(f"{where}cannot be written ({error.strerror})"))


def report_error(error: SppclsError) -> int:
    """Print an error as one line; returns the exit status."""
    exit_code = getattr(error, "exit_code", None)  # of a run that was stopped, which is no error
    whose = let_the_first_speak() if exit_code is None else ""
    if str(error):
        print(
            f"sppcls: {'error: ' if exit_code is None else ''}{whose}{one_line(str(error))}", file=sys.stderr
        )
    return 1 if exit_code is None else int(exit_code)


if __name__ == "__main__":
    sys.exit(main())
