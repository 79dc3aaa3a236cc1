"""Run tests with the lowest or the newest versions of all packages, in an environment made for it.

    python tests/versions.py --lowest -m unit         # words for pytest follow
    python3.14 tests/versions.py --newest -n 2        # the Python that runs this script is the one that is tested
    python tests/versions.py --lowest --list          # print the requirements and do nothing

The lowest versions are those that ``pyproject.toml`` names, the newest what pip finds. Needs about 7 GB of disk and some
minutes for the packages (the default torch brings CUDA with it). The environment is removed at the end; ``--keep FOLDER``
makes it there, or takes the one that is there, and keeps it. Exit status: pytest's, or pip's if the versions cannot be
installed together.
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
# They test the code and not what it does with other packages.
LINTERS = ("ruff", "mypy", "types-PyYAML")


def requirements(pyproject: Path, lowest: bool) -> list[str]:
    """What the package and its tests need: ``name==x`` for every ``name>=x`` of ``pyproject``, or these as they stand."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = {}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        match = re.fullmatch(r"([\w.-]+(?:\[[\w,.-]+\])?)>=([\w.]+)", requirement)
        if match is None:
            raise SystemExit(
                f"{pyproject}: {requirement}: only name>=version and name[extra]>=version are understood"
            )
        if match[1] not in LINTERS:
            wanted[match[1]] = f"{match[1]}=={match[2]}" if lowest else requirement
    return list(wanted.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--lowest", action="store_true", help="versions that pyproject.toml names")
    which.add_argument("--newest", action="store_true", help="versions that pip finds")
    parser.add_argument("--keep", metavar="FOLDER", help="where the environment is made; it is not removed")
    parser.add_argument("--list", action="store_true", help="print the requirements and do nothing")
    args, words = parser.parse_known_args()
    versions = requirements(ROOT / "pyproject.toml", args.lowest)
    if args.list:
        print("\n".join(versions))
        return 0
    with tempfile.TemporaryDirectory(prefix="sppcls-versions-") as temporary:
        folder = Path(args.keep or temporary)
        python = str(folder / "bin" / "python")
        if not Path(python).exists():
            venv.create(folder, with_pip=True)
        pip = [python, "-m", "pip"]
        done = subprocess.run(
            [*pip, "install", "--quiet", "--upgrade", "--upgrade-strategy=eager", *versions], check=False
        )
        if done.returncode:
            return done.returncode
        subprocess.run([*pip, "list"], check=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        # Old packages warn of what newer ones that they lean on have changed since; that is not for us to mend.
        warnings = ["-W", "default"] if args.lowest else []
        return subprocess.run(
            [python, "-m", "pytest", *warnings, *words], cwd=ROOT, env=environment, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
