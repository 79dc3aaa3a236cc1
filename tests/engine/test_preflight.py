"""What is refused before a run has a folder: devices that this machine does not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sppcls import compose, train
from sppcls.engine.preflight import device_count
from sppcls.errors import ConfigError


@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_gpu_numbers_on_a_cpu_are_refused_before_there_is_a_folder(
    tiny: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError) as error:
        train(compose(tiny("trainer.devices=[0]", f"trainer.accelerator={accelerator}")))
    assert str(error.value) == "trainer.devices=[0]: numbers of GPUs, and this run is on a CPU; give how many"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("devices", "count"),
    [("1", 1), ("2", 2), ("auto", 2), ("[1]", 1), ("[1,0]", 2), ("3", None), ("[0,2]", None), ("[99]", None)],
)
def test_gpus_that_are_not_there_are_refused(
    monkeypatch: pytest.MonkeyPatch, devices: str, count: int | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    config = compose([f"trainer.devices={devices}", "trainer.accelerator=gpu"])
    if count is not None:
        assert device_count(config) == count
        return
    with pytest.raises(ConfigError) as error:
        device_count(config)
    shown = devices.replace(",", ", ")
    assert str(error.value) == (
        f"trainer.devices={shown}: torch sees 2 GPU(s) here; choose at most 2, or numbers below"
    )


def test_torchrun_may_show_each_process_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert device_count(compose(["trainer.devices=4", "trainer.accelerator=gpu"])) == 4
