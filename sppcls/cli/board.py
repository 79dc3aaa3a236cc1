"""``sppcls board``: TensorBoard laid out for a comparison."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from sppcls._util.console import one_line, visible
from sppcls._util.signals import answering
from sppcls.cli.command import command
from sppcls.cli.common import whole
from sppcls.errors import ConfigError

PORT = 6006  # TensorBoard's own
_TRIED = 100


class _PortTakenError(Exception):
    """TensorBoard could not have its port."""


@command
def run(
    paths: tuple[str, ...],
    *,
    port: Annotated[int, whole(1, 65535)] | None = None,
    host: str = "127.0.0.1",
    baseline: str | None = None,
    out: Path | None = None,
) -> int:
    """Start TensorBoard laid out for a comparison: errors of all groups over each other at each size, the mean over the
    seeds as a run of its own, HParams with what was varied and the final errors, the tables of `sppcls compare` as text and
    its pictures as images. The runs' own curves and images are there, too. Prints the address of each page; Ctrl-C ends it.

    examples:
      sppcls board runs/single_vs_multi
      sppcls board RUN RUN --host 0.0.0.0 --port 6007     from other machines, too

    Args:
        paths (PATH): run folders, a sweep's folder, or any folder above them
        port: port (6006, or the next free one)
        host: address to listen on; 0.0.0.0 lets other machines in
        baseline (GROUP): compare every group with this one (each pair of groups)
        out (FOLDER): keep TensorBoard's data there, for `tensorboard --logdir FOLDER --load_fast=false`; events of runs are
            linked to (a temporary folder)
    """
    free = _port(host, port)
    from sppcls.comparison import compare
    from sppcls.comparison.board.layout import links
    from sppcls.comparison.board.logdir import answer_tag, write_board
    from sppcls.comparison.report import content

    comparison = compare(paths, baseline)
    # SIGTERM and a closed terminal end the command as Ctrl-C does: with TensorBoard, and without leftovers.
    ends = answering((signal.SIGTERM, signal.SIGHUP), _interrupt)
    with tempfile.TemporaryDirectory(prefix="sppcls-board-") as temporary, ends:
        folder = write_board(comparison, out or Path(temporary) / "data")
        print(visible(content.introduction(comparison)))
        for problem in comparison.problems:
            print(one_line(f"sppcls: {problem}"), file=sys.stderr)
        while True:
            try:
                _serve(
                    folder,
                    Path(temporary) / "tensorboard.log",
                    host,
                    free,
                    port is not None,
                    links(comparison, answer_tag(comparison)),
                )
                break
            except _PortTakenError:  # by somebody who was faster
                free = _port(host, port)
    return 0


def _port(host: str, asked: int | None) -> int:
    """The port asked for, or the first free one from TensorBoard's own on.

    Raises:
        ConfigError: it is taken, or no port of ``host`` can be listened on.
    """
    for port in (asked,) if asked is not None else range(PORT, PORT + _TRIED):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            return port
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise ConfigError(f"--host {host}: is no address of this machine") from None
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            if asked is not None:
                raise ConfigError(
                    f"--port {port}: {reason}; name another one, or none to get the next free one"
                ) from None
    raise ConfigError(f"no free port from {PORT} to {PORT + _TRIED - 1}; name one with --port")


def _serve(folder: Path, log: Path, host: str, port: int, asked: bool, links: Mapping[str, str]) -> None:
    """Run TensorBoard until it is stopped.

    Raises:
        ConfigError: TensorBoard ended by itself.
        _PortTakenError: somebody else has taken the port meanwhile.
    """
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", ".", "--host", host, "--port", str(port)]
    # Its other way of loading reads files in another order. The data do not change, so they are loaded once, and
    # wholly before the port opens.
    command += ["--load_fast=false", "--reload_task=blocking", "--reload_interval=0"]
    with open(log, "wb") as output:
        # In a session of its own, so that Ctrl-C comes to us alone.
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_open(process, log)
        if process.poll() is None:
            if port != PORT and not asked:
                print(f"Port {PORT} is taken; using {port}.")
            shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
            base = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
            for page, link in links.items():
                print(f"  {page:<14}  {base}{link}")
            print(
                "Shows the runs that are finished now; start it again for later ones. Ctrl-C ends it.",
                flush=True,
            )
            process.wait()
        said = log.read_text(errors="replace")
        if "already in use" in said:
            raise _PortTakenError
        lines = said.strip().splitlines() or ["it said nothing"]
        raise ConfigError(f"TensorBoard ended with status {process.returncode}: {lines[-1]}")
    except KeyboardInterrupt:
        print("\nTensorBoard has ended.")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_open(process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when TensorBoard says that it listens, or has ended. (Whoever answers at its port may be another one.)"""
    while process.poll() is None and " at http" not in log.read_text(errors="replace"):
        time.sleep(0.1)


def _interrupt(number: int) -> None:
    raise KeyboardInterrupt
