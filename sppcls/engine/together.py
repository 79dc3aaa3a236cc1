"""The processes of one run that others have started, on one machine or several: torchrun, srun, Ray.

They meet before any of them begins, so that what differs between machines is one line and not a strange network; and
each gives signs of life, so that the loss of a machine ends the run, which else waits for it for half an hour. Both go
through the key-value store that torch's own processes find each other by, so nothing has to be opened besides.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from pytorch_lightning.plugins.environments import SLURMEnvironment
from torch.distributed import DistError, PrefixStore, TCPStore

from sppcls._util.console import one_line, say_to_log
from sppcls._util.processes import GRACE
from sppcls._util.reason import reason_of
from sppcls.config.schema import Config
from sppcls.engine.preflight import device_count
from sppcls.errors import ConfigError, Interrupted, SppclsError

# Seconds between signs of life, and within which all processes have to come.
_BEAT = 2.0
_ARRIVAL = 300.0
# Last signs of life: it has ended, with or without an error of its own, or because another is lost.
_DONE, _FAILED, _BEREFT = _LAST_WORDS = ("done", "failed", "bereft")

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
        # The store is in the first process, unless torchrun's agent has it.
        self._serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        self._where = f"MASTER_ADDR={host}, MASTER_PORT={port}"
        stores = [self._connect(host, port) for _ in range(2)]
        # Another meeting in these processes, and processes that torchrun has started again, know nothing of this one.
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
        self._store, self._beats = (PrefixStore(f"sppcls/{again}/{meeting}", store) for store in stores)
        self._machines = {rank: os.uname().nodename}  # as far as this process knows
        # The first process watches all, and all watch it.
        self._watched = [number for number in range(world) if number != rank] if rank == 0 else [0]
        self._last: dict[int, str] = {}
        self._silent = dict.fromkeys(range(world), 0.0)
        self._every = min(_BEAT, timeout / 5)
        self._last_word: str | None = None
        self._speak, self._spoken, self._over = (threading.Event() for _ in range(3))
        self._telling = threading.Lock()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._beat, self._guard)]

    # -- meeting ------------------------------------------------------------------------------------------------------

    def _connect(self, host: str, port: int) -> TCPStore:
        if not self._serves:
            self._reach(host, port)
        limit = timedelta(seconds=self.arrival)
        try:
            return TCPStore(host, port, None, self._serves, limit, wait_for_workers=False, multi_tenant=True)
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
            ConfigError: in the first process, naming what differs, or who has not come.
            SppclsError: without a word, as another process has said what is wrong.
        """
        here = self._machines[self.rank]
        self._store.set(f"facts/{self.rank}", json.dumps({**facts, "": here}))
        if self.rank:
            self._wait_for("agreed", 0)
            return
        for number in self._watched:
            self._wait_for(f"facts/{number}", number)
            theirs = json.loads(self._store.get(f"facts/{number}"))
            self._machines[number] = there = theirs.pop("")
            for name, value in facts.items():
                if theirs.get(name) != value:
                    raise ConfigError(
                        f"{name} is {value} for process 0 ({here}), {theirs.get(name)} for process {number} ({there}): "
                        "all need the same command, files and packages"
                    )
        self._store.set("agreed", "")

    def _wait_for(self, key: str, number: int) -> None:
        """Wait for what another process sets; how long is for its signs of life to say, once it has come."""
        until = time.monotonic() + self.arrival
        while not self._store.check([key]):
            if self._last.get(number) == _FAILED:
                self._leave_it_to_them()
            if number not in self._last and time.monotonic() >= until:
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
        failed = kind is not None and not issubclass(kind, Interrupted)
        self._end_with(_BEREFT if self._telling.locked() else _FAILED if failed else _DONE)
        if self._serves:  # the store goes with this process; a stop or an error may be its alone
            seconds = math.inf if kind is None else 3 * self._every
            self._wait_until(lambda: all(self._last.get(n) in _LAST_WORDS for n in self._watched), seconds)
        elif failed and self.rank:  # perhaps of what the first one fails of, too
            self._wait_until(lambda: self._last.get(0) == _FAILED, GRACE)
        self._over.set()
        # One that is in torch's code while the interpreter ends would abort the process.
        for thread in self._threads:
            thread.join(5)
        if failed and self.rank and self._last.get(0) == _FAILED and isinstance(error, SppclsError):
            raise SppclsError("") from None
        if isinstance(error, DistError):
            raise SppclsError(f"{self._where}: the first process of the run has ended") from None

    def _end_with(self, word: str) -> None:
        self._last_word = word
        self._speak.set()
        self._spoken.wait(5)  # not for ever: the store may be out of reach

    def _wait_until(self, happened: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not (happened() or self._over.is_set()) and time.monotonic() < until:
            time.sleep(0.05)

    def _beat(self) -> None:
        """Gives signs of life, and looks for those of others, until the store is gone."""
        count = 0
        with suppress(DistError, RuntimeError):
            while not self._over.is_set():
                count, word = count + 1, self._last_word
                self._beats.set(f"beat/{self.rank}", word or str(count))
                if word is not None:
                    self._spoken.set()
                for number in self._watched:
                    if number not in self._last and not self._beats.check([f"beat/{number}"]):
                        continue
                    beat = self._beats.get(f"beat/{number}").decode()
                    if beat != self._last.get(number):
                        self._silent[number] = 0
                    self._last[number] = beat
                self._silent[self.rank] = 0  # the store has answered
                (self._speak if word is None else self._over).wait(self._every)
        self._spoken.set()  # or nobody hears it

    def _guard(self) -> None:
        """Counts seconds rather than reading a clock: a process that was itself suspended finds nobody silent."""
        tick = self._every / 2
        while not self._over.wait(tick):
            for number in (*self._watched, self.rank):
                self._silent[number] += tick
            lost = [number for number in self._watched if self._is_silent(number, self.timeout)]
            if self._last_word is not None:
                if lost:
                    self._over.set()  # nothing is left that they are needed for
            elif self._silent[self.rank] > self.timeout:
                self._end([0], f"{self._where}: no answer for {self.timeout:g} s")
            elif lost:
                self._end(lost, f"{self._named(lost)}: no sign of life for {self.timeout:g} s")
            elif any(self._last.get(n) == _FAILED and self._silent[n] > 5 * GRACE for n in self._watched):
                os._exit(1)  # it has said why; NCCL would go on waiting for it

    def _is_silent(self, number: int, seconds: float) -> bool:
        return self._last.get(number) not in (None, *_LAST_WORDS) and self._silent[number] > seconds

    # -- a loss -------------------------------------------------------------------------------------------------------

    def lost(self, error: BaseException) -> SppclsError:
        """What to say of an error of torch's when another process has gone: nothing if one of the others says it.

        Takes as long as four signs of life, which show who has gone.
        """
        self._telling.acquire()  # the guard says no more
        unwatched = [n for n in range(self.world) if n not in (self.rank, *self._watched)]
        self._silent.update(dict.fromkeys(unwatched, 0.0))
        self._watched = sorted([*self._watched, *unwatched])
        time.sleep(4 * self._every)
        if _FAILED in self._last.values():
            self._leave_it_to_them()
        gone = [n for n in self._watched if self._is_silent(n, 3 * self._every - self._every / 4)]
        if not self._speaks(gone):
            return SppclsError("")
        return SppclsError(
            self._message(f"{self._named(gone)}: the connection is lost ({broken_connection(error)})")
        )

    def _named(self, numbers: Sequence[int]) -> str:
        if not numbers:
            return "another process"
        machines = sorted({self._machines[n] for n in numbers if n in self._machines})
        which = ", ".join(map(str, numbers))
        return f"process{'es' if len(numbers) > 1 else ''} {which} of {self.world}" + (
            f" ({', '.join(machines)})" if machines else ""
        )

    def _speaks(self, gone: Sequence[int]) -> bool:
        """Whether this process is the one to say that others are gone: the first that is left, and without a store,
        from which it could learn who is, one of each machine."""
        if self._last.get(0) == _BEREFT:
            return False
        first = min(n for n in range(self.world) if n not in gone)
        local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
        return self.rank == first or (0 in gone and local == 0)

    def _message(self, what: str) -> str:
        return f"{what}; its machine or process is gone, so the run ends: {self.how_to_resume()}"

    def _end(self, gone: Sequence[int], what: str) -> None:
        """End this process from the guard's thread: nothing else ends one that waits for a lost machine."""
        if not self._telling.acquire(blocking=False):
            return
        text = self._message(what)
        say_to_log(text)
        if self.rank:
            time.sleep(GRACE)
        if self._speaks(gone):
            print(f"sppcls: error: {one_line(text)}", file=sys.stderr, flush=True)
        self._end_with(_BEREFT)
        time.sleep(2 * self._every if self._serves else 0)  # the others learn that it is said
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
