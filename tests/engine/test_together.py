"""Two processes that a launcher has started: they meet before they begin, and one that is lost ends the run."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from forked import Loaded, Program
from PIL import Image
from tiny_runs import wait_until

from sppcls.cli.main import main
from sppcls.engine.together import Together, broken_connection
from sppcls.errors import ConfigError, SppclsError

Start = Callable[..., list[Program]]


@pytest.fixture
def launched(program: Any, unused_port: int, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start two processes as torchrun does, each with words of its own besides the common ones."""

    def start(words: list[str], *own: list[str], world: int = 2) -> list[Program]:
        started = []
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(unused_port), "WORLD_SIZE": str(world),
                 "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1", "GROUP_RANK": "0"}  # fmt: skip
        for rank in range(2):
            for name, value in {**where, "RANK": str(rank), "LOCAL_RANK": str(rank)}.items():
                monkeypatch.setenv(name, value)
            mine = own[rank] if own else []
            started.append(program(["trainer=torchrun", *words, *mine], start_new_session=True))
        return started

    return start


def ended(processes: list[Program]) -> list[str]:
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], outputs
    assert "Traceback" not in "".join(outputs)
    return [line for output in outputs for line in output.splitlines() if line.startswith("sppcls: ")]


def test_another_configuration_is_one_line_before_work_begins(
    tiny: Any, launched: Start, tmp_path: Path
) -> None:
    (line,) = ended(launched(tiny(), [], ["optimizer.lr=0.02"]))
    assert line.startswith("sppcls: error: optimizer.lr is 0.01 for process 0 (")
    assert ", 0.02 for process 1 (" in line
    assert line.endswith("all need the same command, files and packages")
    assert not (tmp_path / "runs").exists()


def test_another_folder_of_images_is_one_line(tiny: Any, launched: Start, tmp_path: Path) -> None:
    places = [tmp_path / "machine0" / "photos", tmp_path / "machine1" / "photos"]
    for place, count in zip(places, (4, 5), strict=True):
        for split in ("train", "val"):
            for name in ("cat", "dog"):
                folder = place / split / name
                folder.mkdir(parents=True)
                for number in range(count if (split, name) == ("train", "dog") else 4):
                    Image.new("RGB", (96, 96), (number * 20, 0, 0)).save(folder / f"{number}.png")
    (line,) = ended(
        launched(tiny("data=folder", "data.batch_size=4"), *([f"data.root={place}"] for place in places))
    )
    assert line.startswith("sppcls: error: the train split is 8 images (checksum ")
    assert ", 9 images (checksum " in line


def test_what_one_process_alone_meets_is_said_with_its_machine(
    tiny: Any, launched: Start, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pt"
    (line,) = ended(launched(tiny(), [], [f"backbone.weights={missing}"]))
    assert line.startswith(f"sppcls: error: process 1 on {os.uname().nodename}: ")
    assert str(missing) in line


def test_what_all_meet_is_said_once(tiny: Any, launched: Start) -> None:
    (line,) = ended(launched(tiny("data.num_train=3")))
    assert line.startswith("sppcls: error: data.num_train=3")


def test_another_number_of_processes_than_started(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["train", *tiny("trainer.devices=2", "trainer.strategy=ddp")]) == 1
    assert capsys.readouterr().err == (
        "sppcls: error: trainer.devices=2, trainer.num_nodes=1: 4 process(es) were started (WORLD_SIZE=4); "
        "trainer=torchrun takes both numbers from torchrun\n"
    )


@pytest.mark.parametrize(("gone", "loss"), [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_a_process_that_is_lost_ends_the_run_with_a_line(
    tiny: Any, launched: Start, tmp_path: Path, gone: int, loss: signal.Signals
) -> None:
    words = tiny("data.num_train=400", "data.batch_size=2", "trainer.max_epochs=40", "trainer.timeout=5",
                 "log.save_every_minutes=0.0001", "run_name=run")  # fmt: skip
    processes = launched(words)
    folder = tmp_path / "runs" / "shapes" / "run"
    wait_until(lambda: (folder / "last.ckpt").exists(), processes[0])
    started = time.monotonic()
    processes[gone].send_signal(loss)  # one that is stopped is silent, as a machine without a cable is
    left = processes[1 - gone]
    if loss == signal.SIGKILL:
        time.sleep(0.3)
        left.send_signal(signal.SIGTERM)  # as torchrun does to all that are left
    output = left.communicate(timeout=120)[0]
    assert time.monotonic() - started < 60
    assert left.returncode == 1
    (line,) = [line for line in output.splitlines() if line.startswith("sppcls: ")]
    here = os.uname().nodename
    line = line.replace(f"process 1 on {here}: ", "")
    who = f"process 1 of 2 ({here})" if gone else "process 0 of 2"
    what = {
        signal.SIGKILL: "the connection is lost (",
        signal.SIGSTOP: "no sign of life for 5 s; its machine",
    }
    assert line.startswith(f"sppcls: error: {who}: {what[loss]}")
    assert line.endswith(
        f"the same command with ckpt_path={folder} goes on; on N processes instead of 2, data.batch_size=4/N keeps "
        "the batches"
    )
    if gone:
        assert line.removeprefix("sppcls: error: ") in (folder / "train.log").read_text()
    processes[gone].kill()


# -- losses, without runs ----------------------------------------------------------------------------------------------


def ends(loaded: Loaded, code: str, world: int, *words: object) -> list[tuple[str, int | None]]:
    """What each of so many processes of a program says, and its exit status."""
    with ExitStack() as started:
        processes = [loaded.start(["-c", code, str(rank), *map(str, words)]) for rank in range(world)]
        for process in processes:
            started.callback(process.close)
        return [(process.communicate(timeout=120)[0].strip(), process.returncode) for process in processes]


ONE_OF_THREE = """
import os, sys, time
from sppcls.engine.together import Together
rank, port, gone = map(int, sys.argv[1:])
os.environ["LOCAL_RANK"] = str(rank)
with Together(rank, 3, "127.0.0.1", port, timeout=10) as process:
    process.agree({})
    time.sleep(3)
    if rank == gone:
        os._exit(1)
    time.sleep(1)
    print(process.lost(RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer")), flush=True)
"""


@pytest.mark.parametrize("gone", [0, 2])
def test_the_first_that_is_left_says_who_is_gone(loaded: Loaded, unused_port: int, gone: int) -> None:
    outputs = [text for text, _ in ends(loaded, ONE_OF_THREE, 3, unused_port, gone)]
    said = [
        "".join(re.findall(r"^process .*", text, re.MULTILINE)) for text in outputs
    ]  # torch has its own to say
    assert [bool(text) for text in said] == [gone != 0, gone == 0, False], said
    machine = f" ({os.uname().nodename})" if gone else ""  # which the first process alone knows
    assert "".join(said).startswith(
        f"process {gone} of 3{machine}: the connection is lost (Connection closed by peer); its machine or process is gone"
    )


LOST_AFTER_THE_END = """
import os, sys, time
from sppcls.engine.together import Together
rank, port = map(int, sys.argv[1:])
with Together(rank, 2, "127.0.0.1", port, timeout=3) as process:
    process.agree({})
    time.sleep(2)
    if rank:
        os._exit(1)
"""


def test_a_run_that_is_finished_ends_well_whoever_is_lost_afterwards(
    loaded: Loaded, unused_port: int
) -> None:
    assert [status for _, status in ends(loaded, LOST_AFTER_THE_END, 2, unused_port)] == [0, 1]


# -- meetings, without runs --------------------------------------------------------------------------------------------


def meeting(rank: int, port: int, facts: dict[str, str], world: int = 2, arrival: float = 3) -> str:
    """What a process says of a meeting; one that goes well ends in "agreed"."""
    try:
        with Together(rank, world, "127.0.0.1", port, timeout=60, arrival=arrival) as process:
            process.agree(facts)
            return "agreed"
    except SppclsError as error:
        return str(error)


def test_packages_of_another_version(unused_port: int) -> None:
    with ThreadPoolExecutor(2) as threads:
        facts = [{"sppcls": "1.0", "torch": "2.14"}, {"sppcls": "1.1", "torch": "2.14"}]
        said = [
            found.result() for found in [threads.submit(meeting, i, unused_port, facts[i]) for i in (0, 1)]
        ]
    here = os.uname().nodename
    assert said == [
        f"sppcls is 1.0 for process 0 ({here}), 1.1 for process 1 ({here}): all need the same command, files and packages",
        "",
    ]


def test_one_that_does_not_come(unused_port: int) -> None:
    assert meeting(0, unused_port, {}, arrival=1).startswith("process 1 of 2 has not come within 1 s: ")


@pytest.mark.parametrize(("host", "said"), [
    ("127.0.0.1", "no answer from the first process of the run within 1 s (Connection refused)"),
    ("nowhere.invalid", "there is no such machine"),
])  # fmt: skip
def test_a_first_process_that_cannot_be_reached(unused_port: int, host: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Together(1, 2, host, unused_port, timeout=60, arrival=1)
    assert str(caught.value).startswith(f"MASTER_ADDR={host}, MASTER_PORT={unused_port}: {said}")


def test_a_port_that_another_program_has(unused_port: int) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("0.0.0.0", unused_port))
        taken.listen()
        with pytest.raises(ConfigError, match=rf"^MASTER_ADDR=127.0.0.1, MASTER_PORT={unused_port}: "):
            Together(0, 2, "127.0.0.1", unused_port, timeout=60, arrival=1)


def test_both_may_take_their_time_once_they_have_come(unused_port: int) -> None:
    before = threading.active_count()

    def late() -> str:
        with Together(1, 2, "127.0.0.1", unused_port, timeout=60, arrival=3) as process:
            time.sleep(5)  # looks at its images for longer than it had to come
            process.agree({})
            return "agreed"

    with ThreadPoolExecutor(2) as threads:
        said = [threads.submit(meeting, 0, unused_port, {}), threads.submit(late)]
        assert [each.result() for each in said] == ["agreed", "agreed"]
    assert threading.active_count() == before


def test_only_errors_of_the_exchange_between_processes_are_taken_for_a_loss() -> None:
    lost = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242"
    assert broken_connection(RuntimeError(lost)) == "Connection closed by peer [127.0.0.1]:4242"
    assert broken_connection(RuntimeError("Gloo connectFullMesh failed with timeout")) is not None
    assert broken_connection(RuntimeError("[PG 0] ProcessGroupNCCL's watchdog got stuck")) is not None
    assert broken_connection(RuntimeError("/photos/igloo/1.jpg: no class has this number")) is None
