"""The test of learning rates: its rates by formula, its losses by a plain loop, and what it says of known curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sppcls import compose
from sppcls.cli.main import main
from sppcls.config.build import build_network, load_sources, make_datamodule
from sppcls.config.schedule import size_schedule
from sppcls.data import prepare_batch
from sppcls.engine.lr_finder import RateTest, find_rate
from sppcls.errors import ConfigError


def test_rates_rise_exponentially_and_losses_are_those_of_plain_sgd(tiny) -> None:
    words = tiny(
        "trainer.max_epochs=4", "augment.lighting=0", "optimizer.momentum=0", "head.dropout=0", "seed=4"
    )
    config = compose([*words, "optimizer.weight_decay=0.01"])
    test = find_rate(config, steps=12, low=1e-4, high=0.1)
    np.testing.assert_allclose(test.rates, np.geomspace(1e-4, 0.1, 12))
    torch.manual_seed(4)
    schedule, splits = size_schedule(config), load_sources(config)
    net = build_network(config, 20).to(memory_format=torch.channels_last).train()
    loader = make_datamodule(config, schedule, splits.train, splits.val).train_dataloader()
    losses: list[float] = []
    for epoch in range(4):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        for batch in loader:
            x = prepare_batch(batch.image, schedule.at(epoch, batch.step), config.data.mean, config.data.std)
            loss = F.cross_entropy(net(x), batch.target)
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            rate = 1e-4 * 1000 ** (len(losses) / 11)
            with torch.no_grad():
                for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                    parameter -= rate * (gradient + 0.01 * parameter)
            losses.append(float(loss.detach()))
    assert test.losses == pytest.approx(losses, rel=1e-4)


def test_what_is_said_of_a_curve_that_falls_and_rises() -> None:
    rates = np.geomspace(1e-5, 1, 101)
    # Falls fastest, by the logarithm of the rate, at 1e-3, and is lowest where the second term takes over.
    smoothed = 3 - np.tanh(2 * (np.log10(rates) + 3)) + 20 * np.clip(np.log10(rates) + 1, 0, None) ** 2
    test = RateTest(list(rates), list(smoothed), list(smoothed))
    assert test.rates[test.steepest or 0] == pytest.approx(1e-3, rel=0.01)
    assert 0.09 < test.rates[test.lowest] < 0.15
    flat = RateTest(list(rates), [3.0] * 101, [*np.linspace(3, 4, 101)])
    assert flat.steepest is None


def test_it_ends_where_the_loss_has_risen_far(tiny) -> None:
    config = compose(tiny("trainer.max_epochs=20"))
    test = find_rate(config, steps=60, low=1e-3, high=1e6)
    assert len(test.rates) < 60
    assert test.ended in ("the loss was 4 times its lowest", "the loss was no finite number any more")


def test_the_command_prints_a_curve_and_a_rate_and_writes_its_picture_alone(
    tiny, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = tiny("trainer.max_epochs=20", "freeze=[backbone]")
    assert main(["lr", *words, "--steps", "40", "--low", "1e-4", "--high", "10", "--out", "lr.png"]) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[0].split() == ["rate", "loss"]
    assert "Try optimizer.lr=" in output
    assert [path.name for path in tmp_path.iterdir()] == ["lr.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--low 1 --high 0.1", "low=1, high=0.1: 0 < low < high is needed"),
        ("--steps 5", "steps=5: at least 10 updates are needed"),
        ("trainer.max_epochs=2", "steps=6: at least 10 updates are needed; the whole training has 6"),
        ("ckpt_path=auto", "ckpt_path=auto: rates are tried from the start"),
        ("--out lr.doc", "--out lr.doc: must end in .png, .svg or .pdf"),
        ("--out nowhere/lr.png", "--out nowhere/lr.png: no such folder"),
        ("optimzer.lr=3", "optimzer.lr: unknown config group"),
    ],
)
def test_impossible_words_are_one_line(tiny, words: str, message: str, capsys) -> None:
    assert main(["lr", *tiny("trainer.max_epochs=20"), *words.split()]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pyramid=none", "sizes.val_sizes=[48,56]"], r"^sizes: .*; type sizes=single_224"),
        (["best_by=map_error"], "^best_by=map_error: the images have one label each"),
    ],
)
def test_it_refuses_what_training_refuses(tiny, words, message) -> None:
    with pytest.raises(ConfigError, match=message):
        find_rate(compose(tiny("trainer.max_epochs=20", *words)), steps=12)
