"""Run tests with the lowest versions that ``pyproject.toml`` allows, in an environment made for it.

    python tests/lower_bounds.py                      # the fast tests
    python tests/lower_bounds.py tests/nn -x          # words for pytest; places replace the fast tests

Needs about 6 GB of disk and some minutes for the packages (the default torch brings CUDA with it); the environment is
removed at the end, ``--keep FOLDER`` makes it there and keeps it. Exit status: pytest's, or pip's if the lowest
versions cannot be installed together.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Ray is left out: 60 packages for a launcher of which no test starts a job.
EXTRAS = ("timm", "onnx", "transfer", "joblib", "slurm", "search")
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
FAST = (
    "tests/nn",
    "tests/data",
    "tests/engine/test_training.py",
    "tests/engine/test_resume.py",
    "tests/evaluation/test_evaluate.py",
    "tests/inference/test_predict.py",
    "tests/inference/test_export.py",
    "tests/inference/test_transfer.py",
    "tests/comparison/test_board.py",
    "tests/searching/test_search.py",
    "tests/sweeping/test_launchers.py",
    "tests/test_config.py",
    "tests/test_cli.py",
)


def lowest(pyproject: Path) -> list[str]:
    """Every requirement ``name>=x`` of the package, its extras and the test tools as ``name==x``."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(r for name in EXTRAS for r in extras[name])]
    wanted += [r for r in extras["dev"] if re.split("[>=<]", r)[0] in TOOLS]
    pinned = {}
    for requirement in wanted:
        match = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
        if match is None:
            raise SystemExit(f"{pyproject}: {requirement}: only name>=version is understood here")
        pinned[match[1]] = f"{match[1]}=={match[2]}"
    return list(pinned.values())


def pytest_words(words: list[str]) -> list[str]:
    """What pytest is told: the fast tests, unless a word is a place (and not the value of an option, as in ``-k spp``)."""
    places = [
        word
        for word in words
        if (place := (ROOT / word.partition("::")[0]).resolve()).exists()
        and place.is_relative_to(ROOT / "tests")
    ]
    return words if places else [*FAST, *words]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", metavar="FOLDER", help="where the environment is made; it is not removed")
    parser.add_argument("--list", action="store_true", help="print the versions and do nothing")
    args, words = parser.parse_known_args()
    versions = lowest(ROOT / "pyproject.toml")
    if args.list:
        print("\n".join(versions))
        return 0
    with tempfile.TemporaryDirectory(prefix="sppcls-lowest-") as temporary:
        folder = Path(args.keep or temporary)
        python = str(folder / "bin" / "python")
        if not Path(python).exists():
            venv.create(folder, with_pip=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", *versions], check=False)
        if done.returncode:
            return done.returncode
        subprocess.run([python, "-m", "pip", "list"], check=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        tests = pytest_words(words)
        # Old packages warn of what newer ones that they lean on have changed since; that is not for us to mend.
        return subprocess.run(
            [python, "-m", "pytest", "-W", "default", *tests], cwd=ROOT, env=environment, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
