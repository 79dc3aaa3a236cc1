"""Files that version 0.1 wrote: they load, go on, and are known again.

``version_0_1/stopped.ckpt`` is the last checkpoint of a run of version 0.1 that SIGTERM stopped at epoch 2, step 2 of 3,
``finished.ckpt`` that of the same run left alone, and ``config.yaml`` the stopped run's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

import sppcls
from sppcls.cli.main import main
from sppcls.runs.checkpoint import read_checkpoint
from sppcls.runs.folder import own_checkpoints

FILES = Path(__file__).with_name("version_0_1")


def test_a_network_of_version_0_1_loads_with_its_weights_and_its_bin_rule() -> None:
    net = sppcls.load_classifier(FILES / "finished.ckpt")
    saved = torch.load(FILES / "finished.ckpt", weights_only=True)
    assert saved["sppcls"]["format"] == 1
    assert saved["sppcls"]["architecture"]["pyramid"] == {"levels": [2, 1], "mode": "max", "bins": "padded"}
    assert net.pool.bin_rule == "padded"
    for name, value in net.state_dict().items():
        assert torch.equal(value, saved["state_dict"][f"net.{name}"])
    # By hand: windows of 2 cells over the 3 cells padded to 4, the padding in front, so cells 0 and 1 to 2.
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    map_ = net.forward_features(x)
    assert map_.shape[2:] == (3, 3)
    halves = (slice(0, 1), slice(1, 3))
    bins = torch.stack([map_[:, :, rows, columns].amax((2, 3)) for rows in halves for columns in halves], 2)
    vector = torch.cat([bins.flatten(1), map_.amax((2, 3))], 1)
    assert torch.equal(net(x), net.forward_head(vector))


def test_a_run_of_version_0_1_goes_on_to_the_weights_that_it_would_have_had(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "shapes" / "old"
    folder.mkdir(parents=True)
    shutil.copy(FILES / "stopped.ckpt", folder / "last.ckpt")
    shutil.copy(FILES / "config.yaml", folder)
    path = folder / "last.ckpt"
    saved = read_checkpoint(path)
    assert (saved["epoch"], saved["global_step"]) == (1, 5)
    assert main(["train", f"ckpt_path={path}"]) == 0
    assert (folder / "result.json").exists()
    expected = torch.load(FILES / "finished.ckpt", weights_only=True)
    found = torch.load(path, weights_only=True)
    assert found["global_step"] == expected["global_step"] == 9
    # Bit for bit where both were trained; other processors round otherwise.
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], value, rtol=1e-4, atol=1e-5)


def test_the_same_command_finds_the_run_of_version_0_1(tmp_path: Path) -> None:
    saved = yaml.safe_load((FILES / "config.yaml").read_text())
    assert saved["pyramid"]["bins"] == "padded"
    folder = tmp_path / "shapes" / "multi_64_48-l2_1-zf5w0.03-seed3"
    folder.mkdir(parents=True)
    shutil.copy(FILES / "stopped.ckpt", folder / "last.ckpt")
    shutil.copy(FILES / "config.yaml", folder)
    words = ["data.num_train=24", "data.num_val=20", "data.batch_size=8", "data.workers=0", "sizes.sizes=[64,48]",
             "sizes.val_sizes=[64]", "backbone=zf5", "backbone.width=0.03", "pyramid.levels=[2,1]", "head=fc",
             "head.hidden=[8]", "ema.enabled=true", "optimizer.lr=0.01", "seed=3", "trainer.accelerator=cpu",
             f"runs_dir={tmp_path}"]  # fmt: skip
    assert own_checkpoints(sppcls.compose([*words, "pyramid.bin_rule=padded"])) == [folder / "last.ckpt"]
    assert own_checkpoints(sppcls.compose(words)) == []


@pytest.mark.parametrize("value", [0, 3, None, "1"])
def test_another_format_is_refused(value: object, tmp_path: Path) -> None:
    saved = torch.load(FILES / "finished.ckpt", weights_only=True)
    saved["sppcls"]["format"] = value
    torch.save(saved, tmp_path / "x.ckpt")
    with pytest.raises(
        sppcls.errors.CheckpointError, match=rf"x.ckpt: format {value} .* reads formats 1 to 2"
    ):
        sppcls.load_classifier(tmp_path / "x.ckpt")
