"""A run that is killed and resumed ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import csv
import os
import random
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from tiny_runs import wait_until

import sppcls.engine.train
from sppcls import compose, load_classifier, train
from sppcls.data.shapes import ShapesSource
from sppcls.errors import CheckpointError, ConfigError, Interrupted
from sppcls.runs.checkpoint import DamagedError, read_checkpoint
from sppcls.runs.folder import lock_folder
from sppcls.runs.model_info import PROGRESS


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = read_checkpoint(folder / "last.ckpt")
    state = dict(checkpoint["state_dict"])
    for i, slots in checkpoint["optimizer_states"][0]["state"].items():
        state.update({f"optimizer.{i}.{k}": v for k, v in slots.items() if torch.is_tensor(v)})
    return state


def assert_same_run(one: Path, other: Path) -> None:
    a, b = final_state(one), final_state(other)
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert different == []
    untimed = []
    for folder in (one, other):
        with open(folder / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        untimed.append(
            [{k: v for k, v in r.items() if "second" not in k and k != "images_per_s"} for r in rows]
        )
    assert untimed[0] == untimed[1]


def assert_goes_on(words: list[str], folder: str) -> None:
    """``ckpt_path=auto`` with the words of the first command finds its run, whatever was refused since."""
    assert train(compose(words))["folder"] == str(Path(folder).resolve())


# Everything that has a state of its own: dropout, mixup and cutmix, averaged weights, accumulation, a plateau rule.
STATEFUL = [
    "head.dropout=0.5",
    "mix.mixup=0.2",
    "mix.cutmix=1.0",
    "ema.enabled=true",
    "ema.decay=0.9",
    "trainer.accumulate_grad_batches=2",
    "scheduler=paper",
    "scheduler.patience=0",
    "trainer.max_epochs=4",
    "data.batch_size=8",
]


# tests/engine/test_killed.py has the same without loader processes, at chosen moments.
@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.long), 2])
def test_kill_9_in_an_epoch_of_the_smaller_size_and_resume(
    tiny, prepared, program, workers: int, tmp_path: Path
) -> None:
    words = tiny(*STATEFUL, f"data.workers={workers}", "data.num_train=96")
    whole = Path(prepared(*STATEFUL, "data.num_train=96", "run_name=whole")["folder"])
    killed = [*words, "run_name=killed", "log.save_every_minutes=0.0001"]
    folder = tmp_path / "runs" / "shapes" / "killed"
    process = program(killed)
    # The second epoch is the first one at 72 pixels; the kill comes at a moment of it that nobody chose.
    wait_until(
        lambda: (folder / "last.ckpt").exists() and read_checkpoint(folder / "last.ckpt")["epoch"] == 1,
        process,
    )
    time.sleep(random.SystemRandom().uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept = read_checkpoint(folder / "last.ckpt")
    assert kept["epoch"] >= 1
    result = train(compose([*killed, "ckpt_path=auto"]))
    assert Path(result["folder"]) == folder.resolve()
    assert result["epochs"] == 4
    assert_same_run(whole, folder)


@pytest.mark.parametrize(("signum", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")])
def test_a_stop_signal_saves_and_says_how_to_go_on(
    tiny, prepared, program, tmp_path: Path, signum: int, name: str
) -> None:
    words = tiny(*STATEFUL, "data.num_train=96", "data.workers=1")
    whole = Path(prepared(*STATEFUL, "data.num_train=96", "run_name=whole")["folder"])
    process = program([*words, "run_name=stopped"])
    folder = tmp_path / "runs" / "shapes" / "stopped"
    wait_until((folder / "last.ckpt").exists, process)
    process.send_signal(signum)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signum
    assert f"stopped by {name}" in output
    assert "Traceback" not in output
    hint = output.split("Resume with: ")[1].split("\n")[0].strip()
    assert hint == f"python train.py ckpt_path={folder}"
    assert f"stopped by {name} at" in (folder / "train.log").read_text()
    # The hint as it stands: nothing else has to be typed again.
    resumed = program([hint.split()[-1]])
    output = resumed.communicate(timeout=120)[0]
    assert resumed.returncode == 0, output
    assert_same_run(whole, folder)


@pytest.mark.parametrize(
    "sizes", ["sizes=random_batch_180_224 sizes.sizes=[72,96]", "sizes.pixel_budget=true"]
)
def test_resume_at_an_epoch_end_for_other_schedules(tiny, sizes: str) -> None:
    words = tiny(*sizes.split(), "trainer.max_epochs=3")
    if "random" in sizes:
        words = [w for w in words if w != "sizes.sizes=[96,72]"]
    whole = Path(train(compose([*words, "run_name=whole"]))["folder"])
    part = Path(
        train(compose([*words, "run_name=part", "trainer.max_epochs=2", "scheduler=constant"]))["folder"]
    )
    whole_constant = Path(train(compose([*words, "run_name=constant", "scheduler=constant"]))["folder"])
    train(compose([*words, "run_name=part", "scheduler=constant", "ckpt_path=auto"]))
    assert_same_run(whole_constant, part)
    with pytest.raises(AssertionError):  # and the comparison can fail: another learning rate is another run
        assert_same_run(whole, part)


def test_ckpt_path_auto_starts_afresh_where_nothing_is(tiny) -> None:
    result = train(compose(tiny("ckpt_path=auto", "trainer.max_epochs=1")))
    assert result["epochs"] == 1


def test_a_finished_run_resumed_has_nothing_to_do(tiny, capsys) -> None:
    words = tiny("trainer.max_epochs=1")
    first = train(compose(words))
    assert "Nothing left to train" not in capsys.readouterr().out
    again = train(compose([*words, "ckpt_path=auto"]))
    assert "Nothing left to train: its one epoch was done" in capsys.readouterr().out
    assert again["folder"] == str(Path(first["folder"]).resolve())
    assert again["last"] == first["last"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("pyramid=l421", "pyramid.levels is [3, 2, 1] there, [4, 2, 1] in this config"),
        ("backbone.width=0.125", "backbone.width is 0.0625 there, 0.125 in this config"),
        ("ema.enabled=true", "ema.enabled is false there"),
        ("head.hidden=[8]", "head.hidden is [16] there, [8] in this config"),
        ("optimizer=adamw", "optimizer.name is sgd there, adamw in this config"),
    ],
)
def test_resuming_another_network_is_refused(tiny, prepared, change: str, message: str) -> None:
    first = prepared("trainer.max_epochs=1")
    with pytest.raises(CheckpointError) as caught:
        train(compose(tiny(change, f"ckpt_path={first['last_checkpoint']}")))
    assert message in str(caught.value)
    assert_goes_on(tiny("trainer.max_epochs=1", "ckpt_path=auto"), first["folder"])


def test_an_end_before_the_epochs_that_are_done_is_refused(tiny, prepared) -> None:
    first = prepared("trainer.max_epochs=3")
    for epochs in (1, 2):
        with pytest.raises(
            CheckpointError, match=rf"written in epoch 3; trainer.max_epochs={epochs} must be at least 3"
        ):
            train(compose(tiny(f"trainer.max_epochs={epochs}", f"ckpt_path={first['last_checkpoint']}")))
    assert (
        train(compose(tiny("trainer.max_epochs=3", f"ckpt_path={first['last_checkpoint']}")))["epochs"] == 3
    )


def test_auto_is_the_same_configuration_not_the_same_name(tiny, prepared) -> None:
    first = prepared("trainer.max_epochs=1")
    other = train(compose(tiny("trainer.max_epochs=1", "optimizer.lr=0.5", "ckpt_path=auto")))
    assert other["folder"] != first["folder"]
    assert "lr: 0.01" in (Path(first["folder"]) / "config.yaml").read_text()


def test_a_pyramid_lets_sizes_change_on_resuming_and_the_table_of_figures_follows(tiny, prepared) -> None:
    first = prepared("trainer.max_epochs=1")
    for epochs, sizes in ((2, "[96,72,64]"), (3, "[96]"), (4, "[96,72]")):
        result = train(
            compose(
                tiny(
                    f"ckpt_path={first['last_checkpoint']}",
                    f"trainer.max_epochs={epochs}",
                    "sizes.sizes=[96,64]",
                    f"sizes.val_sizes={sizes}",
                )
            )
        )
    with open(Path(result["folder"]) / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["size"] for row in rows] == ["96", "64", "96", "64"]
    assert [bool(row["val_64/top1_error"]) for row in rows] == [False, True, False, False]
    assert [bool(row["val_72/top1_error"]) for row in rows] == [True, True, False, True]


def test_the_best_checkpoint_grows_into_a_run_of_its_own(tiny, prepared) -> None:
    first = prepared("trainer.max_epochs=1")
    last = Path(first["last_checkpoint"]).read_bytes()
    second = train(compose(tiny(f"ckpt_path={first['best_checkpoint']}")))
    assert second["folder"] != first["folder"]
    assert second["epochs"] == 2
    assert Path(first["last_checkpoint"]).read_bytes() == last


def test_another_epoch_length_on_resuming_is_refused(tiny, prepared) -> None:
    first = prepared("trainer.max_epochs=1")
    with pytest.raises(
        CheckpointError, match="epochs have 3 steps, 1 per update; with this config they have 6"
    ):
        train(compose(tiny(f"ckpt_path={first['last_checkpoint']}", "data.batch_size=8")))
    assert_goes_on(tiny("ckpt_path=auto"), first["folder"])


def test_a_checkpoint_without_the_progress_of_its_run_can_be_used_but_not_resumed(tiny, prepared) -> None:
    first = prepared("trainer.max_epochs=1")
    checkpoint = torch.load(first["last_checkpoint"], weights_only=True)
    assert set(checkpoint["sppcls_progress"]) == PROGRESS | {
        "processes",
        "stopped",
    }  # which older versions did not keep
    del checkpoint["sppcls_progress"]["train_counts"]
    torch.save(checkpoint, first["last_checkpoint"])
    load_classifier(first["last_checkpoint"])
    with pytest.raises(CheckpointError, match="can be used but not resumed: it lacks train_counts"):
        train(compose(tiny(f"ckpt_path={first['last_checkpoint']}")))


@pytest.mark.parametrize("named", ["auto", "the folder", "last.ckpt"])
def test_what_another_process_still_saves_is_gone_on_from(tiny, prepared, named: str) -> None:
    """Stopped and started again at once: the second command begins before the first has saved for the last time."""
    given = [
        "scheduler=constant",
        "optimizer.lr=1e-12",
        "backbone.norm=none",
    ]  # none is better than the first
    whole = Path(prepared(*given, "run_name=whole", "trainer.max_epochs=3")["folder"])
    words = tiny(*given, "run_name=run")
    folder = Path(prepared(*given, "run_name=run", "trainer.max_epochs=1")["folder"])
    last = folder / "last.ckpt"
    early = last.read_bytes()
    train(compose([*words, "trainer.max_epochs=2", "ckpt_path=auto"]))
    late = last.read_bytes()

    def write(content: bytes) -> None:
        last.unlink()  # best.ckpt may be the same file
        last.write_bytes(content)

    write(early)
    begun = threading.Event()

    def save_and_end() -> None:
        with lock_folder(folder):
            begun.set()
            time.sleep(1)
            write(late)

    other = threading.Thread(target=save_and_end)
    other.start()
    begun.wait()
    path = {"auto": "auto", "the folder": folder, "last.ckpt": last}[named]
    again = train(compose([*words, "trainer.max_epochs=3", f"ckpt_path={path}"]))
    other.join()
    assert Path(again["folder"]).resolve() == folder.resolve()
    assert_same_run(whole, folder)
    epochs = [read_checkpoint(place / "best.ckpt")["epoch"] for place in (whole, folder)]
    assert epochs == [0, 0]


def test_nothing_is_read_of_a_run_that_goes_on_elsewhere(
    tiny, prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(prepared("trainer.max_epochs=1")["folder"])
    (folder / "last.ckpt").write_bytes(b"half of it")
    monkeypatch.setattr(sppcls.engine.train, "_ENDING", 0.1)
    with lock_folder(folder), pytest.raises(ConfigError, match="in use by process"):
        train(compose(tiny(f"ckpt_path={folder / 'last.ckpt'}")))
    with pytest.raises(DamagedError):  # and the lock has ended with the command that was refused
        train(compose(tiny(f"ckpt_path={folder / 'last.ckpt'}")))
    with lock_folder(folder):
        pass


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_ends_the_run_at_once(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    image = ShapesSource.image

    def interrupted(self: ShapesSource, index: int) -> torch.Tensor:
        monkeypatch.setattr(ShapesSource, "image", image)
        os.kill(os.getpid(), signum)
        return image(self, index)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(ShapesSource, "image", interrupted)
    with pytest.raises(
        Interrupted, match=f"^stopped by {signal.Signals(signum).name} before training began$"
    ) as caught:
        train(compose(tiny()))
    assert caught.value.exit_code == 128 + signum
    assert {number: signal.getsignal(number) for number in before} == before
    assert not list(tmp_path.rglob("*.ckpt"))
    train(compose(tiny("trainer.max_epochs=1")))
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_checkpoint_that_cannot_be_read_at_present_is_not_called_damaged(tiny, prepared) -> None:
    last = Path(prepared("trainer.max_epochs=1")["last_checkpoint"])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as next_one:
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_one.fileno(), hard))
        try:
            with pytest.raises(CheckpointError, match="cannot be read .Too many open files") as caught:
                read_checkpoint(last)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not isinstance(caught.value, DamagedError)
    assert read_checkpoint(last)["epoch"] == 0


def test_half_written_files_are_left_alone_while_another_process_may_be_writing_them(tiny, prepared) -> None:
    words = tiny("trainer.max_epochs=1")
    folder = Path(prepared("trainer.max_epochs=1")["folder"])
    half = [folder / ".last.ckpt.123.tmp", folder / "predictions" / ".val_96.123.tmp.npz"]
    for path in half:
        path.write_bytes(b"half of it")
    with lock_folder(folder), pytest.raises(ConfigError, match="in use by process"):
        train(compose([*words, "ckpt_path=auto"]))
    assert all(path.exists() for path in half)
    train(compose([*words, "ckpt_path=auto"]))
    assert not any(path.exists() for path in half)


@pytest.mark.parametrize(
    ("optimizer", "change", "key", "values"),
    [
        ("sgd", "optimizer.weight_decay=0.01", "weight_decay", [0.01, 0.01]),
        ("sgd", "optimizer.momentum=0.5", "momentum", [0.5, 0.5]),
        ("sgd", "optimizer.nesterov=true", "nesterov", [True, True]),
        ("sgd", "optimizer.decay_norm_and_bias=false", "weight_decay", [0.0005, 0.0]),
        ("sgd", "optimizer.bias_lr_factor=2", "lr_scale", [1.0, 2.0]),
        ("adamw", "optimizer.betas=[0.5,0.75]", "betas", [(0.5, 0.75)] * 2),
    ],
)
def test_a_run_goes_on_with_the_optimizer_that_its_config_says(
    tiny, prepared, optimizer: str, change: str, key: str, values: list[object]
) -> None:
    words = tiny(f"optimizer={optimizer}", "scheduler=constant")
    first = prepared(f"optimizer={optimizer}", "scheduler=constant", "trainer.max_epochs=1")
    train(compose([*words, change, f"ckpt_path={first['last_checkpoint']}"]))
    checkpoint = read_checkpoint(first["last_checkpoint"])
    assert_goes_on([*words, change, "ckpt_path=auto"], first["folder"])
    (state,) = checkpoint["optimizer_states"]
    assert [group[key] for group in state["param_groups"]] == values
    name, _, value = change.removeprefix("optimizer.").partition("=")
    assert str(checkpoint["sppcls"]["config"]["optimizer"][name]).lower() in (
        value,
        f"{value}.0",
        "[0.5, 0.75]",
    )
