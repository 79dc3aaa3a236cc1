"""Machines that are namespaces of this one: each has a network, a name and an /etc/hosts of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FIRST, SECOND = "node1", "node2"
ADDRESSES = {FIRST: "10.77.0.1", SECOND: "10.77.0.2"}
# What `ip netns` knows them by, and where it looks for their files.
_SPACES = {name: f"sppcls-{os.getpid()}-{name}" for name in ADDRESSES}
_FILES = Path("/etc/netns")

needs_namespaces = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None,
    reason="network namespaces need root and iproute2",
)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Machines:
    """Two machines with a cable between them; a context, at whose end all that still runs on them is killed."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Machines:
        hosts = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in ADDRESSES.items())]
        for space in _SPACES.values():
            (_FILES / space).mkdir(parents=True)
            (_FILES / space / "hosts").write_text("\n".join(hosts) + "\n")
            _ip("netns", "add", space)
        _ip("link", "add", "cable", "netns", _SPACES[FIRST], "type", "veth",
            "peer", "name", "cable", "netns", _SPACES[SECOND])  # fmt: skip
        for name, address in ADDRESSES.items():
            _ip("-n", _SPACES[name], "addr", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", _SPACES[name], "link", "set", device, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name, space in _SPACES.items():
            self.kill(name)
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
            shutil.rmtree(_FILES / space, ignore_errors=True)
        for process in self.started:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def start(self, name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """``subprocess.Popen`` on a machine, in the checkout, with both outputs in one."""
        inside = ["unshare", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh", *command]
        given: dict[str, Any] = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True,
                                 "start_new_session": True, **options}  # fmt: skip
        self.started.append(subprocess.Popen(["ip", "netns", "exec", _SPACES[name], *inside], **given))
        return self.started[-1]

    def kill(self, name: str) -> None:
        """Kill all that runs on a machine, at once."""
        found = subprocess.run(
            ["ip", "netns", "pids", _SPACES[name]], check=False, capture_output=True, text=True
        )
        for process in found.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)

    def cable(self, state: str) -> None:
        """Take the cable out of the second machine (``down``), or put it back (``up``)."""
        _ip("-n", _SPACES[SECOND], "link", "set", "cable", state)
