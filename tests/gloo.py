"""A function of a test file, run by two gloo processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from forked import Loaded

_CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from gloo import _run; _run(*sys.argv[1:])"


def in_two_processes(
    loaded: Loaded, port: int, function: Callable[[int, Path], None], folder: Path, timeout: float = 400
) -> None:
    """Call ``function(rank, folder)`` in two processes of one group, and see both end well.

    Args:
        loaded: forks the processes.
        port: TCP port of this machine that nobody listens on.
        function: of the top level of a test file. It writes what it finds into the folder.
        folder: where both may write.
        timeout: seconds that they may take.
    """
    file = Path(function.__code__.co_filename)
    words = [
        str(Path(__file__).parent),
        str(file.parent),
        file.stem,
        function.__name__,
        str(folder),
        str(port),
    ]
    processes = [loaded.start(["-c", _CODE, *words, str(rank)]) for rank in range(2)]
    try:
        outputs = [process.communicate(timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.close()
    assert [process.returncode for process in processes] == [0, 0], outputs


def _run(place: str, module: str, name: str, folder: str, port: str, rank: str) -> None:
    import torch.distributed as dist

    sys.path.insert(0, place)
    function = getattr(import_module(module), name)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=int(rank), world_size=2)
    function(int(rank), Path(folder))
    dist.destroy_process_group()
