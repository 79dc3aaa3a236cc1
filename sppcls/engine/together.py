"""The processes of one run that others have started, on one machine or several: torchrun, srun, Ray.

They meet before any of them begins, so that what differs between machines is one line and not a strange network; and
each gives signs of life, so that the loss of a machine ends the run, which else waits for it for half an hour. Both go
through the key-value store that torch's own processes find each other by, so nothing has to be opened besides.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType

import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment
from torch.distributed import DistError, PrefixStore, TCPStore

from sppcls._util.console import one_line, say_to_log
from sppcls._util.processes import GRACE
from sppcls._util.reason import reason_of
from sppcls._version import __version__
from sppcls.config.same_run import change, flatten
from sppcls.config.schema import Config, as_dict
from sppcls.data import Source, Splits
from sppcls.engine.preflight import device_count
from sppcls.engine.resume import Resume
from sppcls.errors import ConfigError, Interrupted, SppclsError

# Seconds between signs of life, and within which all processes have to come.
_BEAT = 2.0
_ARRIVAL = 300.0
_DONE, _FAILED = "done", "failed"

_ROLES = ("train", "val", "test")
_meetings = 0


def meet(config: Config, slurm: SLURMEnvironment | None) -> Together | None:
    """This process among those of its run; None of a run of one, or whose processes Lightning starts itself.

    Raises:
        ConfigError: the first process cannot be reached, or the config speaks of another number of processes.
    """
    global _meetings
    if slurm is not None:
        rank, world = slurm.global_rank(), slurm.world_size()
        host, port = slurm.main_address, slurm.main_port
    elif {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if device_count(config) != world:
            trainer = config.trainer
            raise ConfigError(
                f"trainer.devices={trainer.devices}, trainer.num_nodes={trainer.num_nodes}: {world} process(es) were "
                f"started (WORLD_SIZE={world}); trainer=torchrun takes both numbers from torchrun"
            )
    else:
        return None
    if world == 1:
        return None
    number, _meetings = _meetings, _meetings + 1
    return Together(rank, world, host, port, config.trainer.timeout, meeting=number)


def facts_of(config: Config, splits: Splits, resume: Resume | None) -> dict[str, str]:
    """What must be the same for all processes of a run, each in a few words."""
    keys = {
        key: json.dumps(value)
        for key, value in flatten(as_dict(config)).items()
        if key != "data.root" and change(key) not in ("place", "log", "speed")
    }
    images = {
        f"the {role} split": _content(source) for role, source in splits._asdict().items() if role in _ROLES
    }
    start = "the beginning"
    if resume is not None:
        start = f"epoch {resume.checkpoint['epoch'] + 1}, step {resume.checkpoint['global_step']}"
    return {
        "sppcls": __version__,
        "torch": torch.__version__,
        **keys,
        **images,
        "the place to go on from": start,
    }


def _content(source: Source | None) -> str:
    """How many images there are, and a checksum of their names and classes."""
    if source is None:
        return "none"
    checksum = hashlib.blake2b(json.dumps(source.classes).encode(), digest_size=4)
    for index, target in enumerate(source.targets):
        checksum.update(f"{source.name(index)}\0{target}\0".encode("utf-8", "surrogateescape"))
    return f"{len(source)} images (checksum {checksum.hexdigest()})"


class Together:
    """This process among those of its run; a context, which the run is within.

    Args:
        rank, world: number of this process, and of all.
        host, port: where the first one's store is.
        timeout: seconds without a sign of life after which a process counts as lost.
        arrival: seconds within which all have to come.
        meeting: number of this meeting among those of these processes.

    Attributes:
        how_to_resume: what to type when the run is lost, called then.

    Raises:
        ConfigError: the first process cannot be reached.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        host: str,
        port: int,
        timeout: float,
        *,
        arrival: float = _ARRIVAL,
        meeting: int = 0,
    ) -> None:
        self.rank, self.world, self.timeout, self.arrival = rank, world, timeout, arrival
        self.how_to_resume: Callable[[], str] = lambda: "ckpt_path=auto goes on with it"
        # Else torchrun's agent does.
        self._serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        self._where = f"MASTER_ADDR={host}, MASTER_PORT={port}"
        self._stores = [self._connect(host, port) for _ in range(2)]
        # Another meeting in these processes, and processes that torchrun has started again, know nothing of this one.
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
        place = f"sppcls/{again}/{meeting}"
        self._store, self._beats = (PrefixStore(place, store) for store in self._stores)
        self._watched = [number for number in range(world) if number != rank] if rank == 0 else [0]
        self._last: dict[int, str] = {}
        self._silent = dict.fromkeys([*self._watched, rank], 0)
        self._status: str | None = None
        self._every = min(_BEAT, timeout / 5)
        self._over = threading.Event()
        self._telling, self._speaking = threading.Lock(), threading.Lock()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._beat, self._guard)]

    # -- meeting ------------------------------------------------------------------------------------------------------

    def _connect(self, host: str, port: int) -> TCPStore:
        # torchrun's agent has the store; else it is in the first process.
        first = self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        if not first:
            self._reach(host, port)
        try:
            return TCPStore(
                host,
                port,
                None,
                first,
                timedelta(seconds=self.arrival),
                wait_for_workers=False,
                multi_tenant=True,
            )
        except (DistError, RuntimeError) as error:
            raise ConfigError(f"{self._where}: {reason_of(error, 160, first_line=True)}") from None

    def _reach(self, host: str, port: int) -> None:
        """Wait until somebody listens; torch's own attempts print a line each."""
        until = time.monotonic() + self.arrival
        while True:
            try:
                with socket.create_connection((host, port), timeout=min(10, self.arrival)):
                    return
            except socket.gaierror:
                raise ConfigError(f"{self._where}: there is no such machine") from None
            except OSError as error:
                if time.monotonic() >= until:
                    raise ConfigError(
                        f"{self._where}: no answer from the first process of the run within {self.arrival:g} s "
                        f"({os.strerror(error.errno) if error.errno else 'timed out'}); name a machine and a port that all reach"
                    ) from None
            time.sleep(0.2)

    def agree(self, facts: Mapping[str, str]) -> None:
        """Wait for all, and go on only if all have the same ``facts``.

        Raises:
            ConfigError: in the first process, naming what differs, or who has not come; an empty one in the others.
        """
        mine = json.dumps({**facts, "": os.uname().nodename})
        self._store.set(f"facts/{self.rank}", mine)
        if self.rank:
            self._wait_for("verdict", 0)
            if self._store.get("verdict") != b"go":
                raise ConfigError("")
            return
        for number in self._watched:
            self._wait_for(f"facts/{number}", number)
            theirs = json.loads(self._store.get(f"facts/{number}"))
            here = json.loads(mine)
            for name, value in facts.items():
                if theirs.get(name) != value:
                    self._store.set("verdict", "stop")
                    raise ConfigError(
                        f"{name} is {value} for process 0 ({here['']}), {theirs.get(name)} for process {number} "
                        f"({theirs['']}): all need the same command, files and packages"
                    )
        self._store.set("verdict", "go")

    def _wait_for(self, key: str, number: int) -> None:
        """Wait for what another process sets; how long is for its signs of life to say, once it has come."""
        until = time.monotonic() + self.arrival
        while not self._store.check([key]):
            if self._last.get(number) == _FAILED:
                self._leave_it_to_them()
            if number not in self._last and time.monotonic() >= until:
                self._store.set("verdict", "stop")
                raise ConfigError(
                    f"process {number} of {self.world} has not come within {self.arrival:g} s: start as many as "
                    "trainer.devices x trainer.num_nodes"
                )
            time.sleep(0.05)

    def _leave_it_to_them(self) -> None:
        """End this process without a word, once the one that has failed has said why."""
        time.sleep(0 if self.rank else 3 * GRACE)
        raise SppclsError("")

    def share(self, folder: Path | None) -> Path:
        """The run folder, which the first process knows, for all."""
        if self.rank == 0:
            self._store.set("folder", str(folder))
        return Path(self._store.get("folder").decode())

    # -- signs of life ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Together:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._telling.locked():  # else the store may be out of reach, too
            with suppress(DistError, RuntimeError), self._speaking:
                self._status = _DONE if kind is None or issubclass(kind, Interrupted) else _FAILED
                self._store.set(f"beat/{self.rank}", self._status)
                if self._status == _FAILED and not self.rank:
                    self._store.set("verdict", "stop")
        if self._status == _FAILED and self._serves:
            time.sleep(2 * self._every)  # the store goes with this process; until then the others learn of it
        elif self._status == _FAILED and self.rank:  # perhaps of what the first one fails of, too
            until = time.monotonic() + GRACE
            while self._last.get(0) != _FAILED and time.monotonic() < until:
                time.sleep(0.05)
        # Likewise; who is lost in the meantime, the guard says. A stop may be this process's alone.
        until = time.monotonic() + (math.inf if kind is None else 3 * self._every)
        while self._status == _DONE and self._serves and set(self._last.values()) - {_DONE, _FAILED}:
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        self._over.set()
        # One that is in torch's code while the interpreter ends would abort the process.
        for thread in self._threads:
            thread.join(5)
        if self.rank and self._last.get(0) == _FAILED and isinstance(error, SppclsError) and str(error):
            raise type(error)("") from None
        if isinstance(error, DistError):
            raise SppclsError(f"{self._where}: the first process of the run has ended") from None

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(self._every if count else 0):
            count += 1
            with suppress(DistError, RuntimeError):
                with self._speaking:
                    if self._status is None:
                        self._beats.set(f"beat/{self.rank}", str(count))
                for number in self._watched:
                    if number not in self._last and not self._beats.check([f"beat/{number}"]):
                        continue
                    beat = self._beats.get(f"beat/{number}").decode()
                    if beat != self._last.get(number):
                        self._silent[number] = 0
                    self._last[number] = beat
                self._silent[self.rank] = 0  # the store has answered

    def _guard(self) -> None:
        """Counts seconds rather than reading a clock: a process that was itself suspended finds nobody silent."""
        while not self._over.wait(1):
            for number in self._silent:
                self._silent[number] += 1
            if self._silent[self.rank] > self.timeout:
                self._end(f"{self._where}: no answer for {self.timeout:g} s")
            for number in self._watched:
                beat = self._last.get(number)
                if beat == _FAILED and self._silent[number] > 5 * GRACE:
                    os._exit(1)  # it has said why; NCCL would go on waiting for it
                if beat not in (None, _DONE, _FAILED) and self._silent[number] > self.timeout:
                    self._end(f"process {number} of {self.world}: no sign of life for {self.timeout:g} s")

    # -- a loss -------------------------------------------------------------------------------------------------------

    def lost(self, error: BaseException) -> SppclsError | None:
        """What to say of an error of torch's when another process has gone; None of any other error."""
        reason = broken_connection(error)
        if reason is None:
            return None
        self._telling.acquire()  # the guard says no more
        time.sleep(2 * self._every)  # a last word of those who could give one
        if _FAILED in self._last.values():
            self._leave_it_to_them()
        return SppclsError(self._message(f"the connection to another process is lost ({reason})"))

    def _message(self, what: str) -> str:
        return f"{what}; its machine or process is gone, so the run ends: {self.how_to_resume()}"

    def _end(self, what: str) -> None:
        """End this process from the guard's thread: nothing else ends one that waits for a lost machine."""
        if not self._telling.acquire(blocking=False):
            return
        text = self._message(what)
        say_to_log(text)
        if self.rank:
            time.sleep(GRACE)
        if int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0))) == 0:
            print(f"sppcls: error: {one_line(text)}", file=sys.stderr, flush=True)
        os._exit(1)


def broken_connection(error: BaseException) -> str | None:
    """The reason that torch gives for a broken exchange between processes; None of an error of another kind."""
    for each in (error, error.__cause__, error.__context__):
        if isinstance(each, RuntimeError) and (
            isinstance(each, DistError) or re.search(r"\bgloo/(gloo|transport)/|\bGloo |NCCL", str(each))
        ):
            text = str(each).rpartition("] ")[2] if str(each).startswith("[") else str(each)
            return reason_of(text.partition(". This is")[0], 120, first_line=True)  # nor torch's guesses
    return None
