"""Run the notebooks and keep their outputs.

python notebooks/run.py [notebooks/any_size_inference.ipynb ...]

Without names, all of them. What is kept does not say when or how fast a cell ran, so a notebook that gives the same
answers is the same file.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent


def execute(path: Path, seconds: int = 300) -> Any:
    """A notebook with the outputs of a run in an empty folder, by a Python of its own.

    Args:
        path: the notebook, which stays as it is.
        seconds: that any one cell may take.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    # One thread, so that the sums are added in one order; the checkout's sppcls before an installed one.
    paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryDirectory() as empty:
        client = NotebookClient(
            notebook,
            timeout=seconds,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],  # its sockets are on this machine only, which it warns of
            resources={"metadata": {"path": empty}},
        )
        client.execute(env=environment)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def main(names: list[str]) -> None:
    """Run the named notebooks, or all, and write them in their places."""
    for path in map(Path, names) if names else sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(execute(path), path)
        print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
