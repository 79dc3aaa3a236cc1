"""Protocols: what the shipped files say, what a user's own may say, and which networks they fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from sppcls.errors import ConfigError
from sppcls.evaluation import load_protocol, load_protocols, protocol_names
from sppcls.evaluation.protocols import view_offsets
from sppcls.nn import build_classifier

# He et al. 2015, sec. 3.1.5: 10 views; 5 scales of 18 and one of 6; and two whole images.
VIEWS = {
    "center": 1,
    "full": 1,
    "full_flip": 2,
    "ten_view": 10,
    "feature_ten_view": 10,
    "multi_scale_96": 96,
    "multi_scale_96_crops": 96,
    "multi_scale_96_full2": 98,
}


def test_shipped_protocols_have_the_papers_number_of_views() -> None:
    assert {name: load_protocol(name).views_of_a_photo() for name in protocol_names()} == VIEWS


def test_corners_and_centre_of_the_whole_image() -> None:
    group = load_protocol("ten_view").groups[0]
    assert view_offsets(group, (256, 341), (224, 224)) == [(16, 58), (0, 0), (0, 117), (32, 0), (32, 117)]


def test_at_224_positions_coincide() -> None:
    group = load_protocol("multi_scale_96").groups[0]
    assert sorted(view_offsets(group, (224, 300), (224, 224))) == [(0, 0), (0, 38), (0, 76)]
    assert view_offsets(group, (224, 224), (224, 224)) == [(0, 0)]


def test_another_size_keeps_the_proportions() -> None:
    small = load_protocol("multi_scale_96").at((112, 112))
    assert small.groups[0].scales == (112, 128, 150, 180, 224, 280)
    assert small.region == (112, 112)
    assert load_protocol("center").at((180, 180)).groups[0].scales == (206,)  # 180 * 256 / 224 = 205.7
    assert small.at((224, 224)) == load_protocol("multi_scale_96")


def test_protocols_can_be_joined() -> None:
    joined = load_protocol("ten_view+full_flip")
    assert joined.views_of_a_photo() == 12
    assert joined.name == "ten_view+full_flip"


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "region: 96\naverage: logits\nwindow_rule: released\ninclude: [full]\n"
        "views:\n  - {kind: window, scales: [96, 128], positions: [center], flip: yes}\n"
    )
    mine = load_protocol(str(path))
    assert (mine.name, mine.region, mine.average, mine.window_rule) == (
        "mine",
        (96, 96),
        "logits",
        "released",
    )
    assert mine.groups[0].scales == (110,)  # 256 for 224 is 109.7 for 96
    assert mine.groups[1].flips == (True,)
    assert mine.views_of_a_photo() == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("views: []", "has no views"),
        ("[1]", "needs the keys"),
        ("view: []", r"view: unknown key \(did you mean 'views'\?\); known: region"),
        ("average: mean\nviews: []", "average=mean: choose from softmax, logits"),
        ("views: [{kind: crops, scales: [256]}]", "kind=crops: choose from crop, window, full"),
        ("views: [{kind: full, scales: []}]", r"scales=\[\]: whole numbers of pixels"),
        ("views: [{kind: full, scales: [0]}]", "whole numbers of pixels"),
        (
            "views: [{kind: crop, scales: [200], positions: [center]}]",
            "a crop of 224 needs a shorter side of 224",
        ),
        ("views: [{kind: crop, scales: [256]}]", "positions of a crop view: a list of center"),
        ("views: [{kind: full, scales: [256], positions: [center]}]", "positions of a full view: none"),
        ("views: [{kind: crop, scales: [256], positions: [middle]}]", "positions=middle: choose from center"),
        ("views: [{kind: crop, scales: [256], positions: [top], flip: maybe}]", "flip=maybe: choose from"),
        ("region: -1\nviews: []", "region"),
        ("include: [other.yaml]", "other.yaml: no such file"),
        ("a: [", "cannot be read"),
        ("include: 5", "include=5: a list is needed"),
        ("include: center", "include=center: a list is needed"),
        ("views: 5", "views=5: a list is needed"),
        ("views: [{kind: full, scales: [256], flip: [a]}]", r"flip=\['a'\]: choose from"),
        ("include: [mine.yaml]\nviews: []", "mine.yaml: includes itself"),
    ],
)
def test_mistakes_in_a_file_are_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_protocol(str(path))


def test_an_included_file_stands_beside_and_its_settings_count(tmp_path: Path) -> None:
    base = "average: logits\nwindow_rule: released\nviews: [{kind: full, scales: [256]}]\n"
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "a+b.yaml").write_text("include: [base.yaml]\n")
    top = load_protocol(str(tmp_path / "a+b.yaml"))
    assert (top.name, top.average, top.window_rule) == ("a+b", "logits", "released")
    (tmp_path / "mixed.yaml").write_text("include: [base.yaml, center]\n")
    with pytest.raises(ConfigError, match="center has another region, average or window_rule"):
        load_protocol(str(tmp_path / "mixed.yaml"))
    (tmp_path / "said.yaml").write_text("average: softmax\ninclude: [base.yaml, center]\n")
    assert load_protocol(str(tmp_path / "said.yaml")).average == "softmax"
    with pytest.raises(ConfigError, match="cannot be joined"):
        load_protocol(f"center+{tmp_path / 'base.yaml'}")


def test_two_protocols_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "center.yaml").write_text("views: [{kind: full, scales: [256]}]\n")
    with pytest.raises(ConfigError, match="a second one named center; rename its file"):
        load_protocols(["center", str(tmp_path / "center.yaml")])
    with pytest.raises(ConfigError, match="none of center, full has windows"):
        load_protocols(["center", "full"], "released")
    assert [p.window_rule for p in load_protocols(["center", "feature_ten_view"], "released")][
        1
    ] == "released"


def test_what_would_be_shrunk_is_refused() -> None:
    with pytest.raises(ConfigError, match="a shorter side of 4681 is too large"):
        load_protocol("full").at((4096, 4096)).check_fits(network([3, 1]))


def test_unknown_names_and_rules() -> None:
    with pytest.raises(ConfigError, match="no such protocol"):
        load_protocol("x" * 300)
    assert load_protocol(" full ").name == "full"
    with pytest.raises(ConfigError, match=r"tenview: no such protocol \(did you mean 'ten_view'\?\)"):
        load_protocol("tenview")
    with pytest.raises(ConfigError, match="window_rule=mine: choose from appendix, report, released"):
        load_protocol("full", "mine")


def network(levels, head="fc"):
    return build_classifier(
        backbone={"name": "zf5", "width": 0.05, "norm": "none"},
        pyramid={"levels": levels},
        head={"name": head, "hidden": [8]},
        num_classes=3,
        input_size=(96, 96),
    )


def test_a_network_without_a_pyramid_takes_crops_of_its_size_only() -> None:
    net = network(None)
    load_protocol("ten_view").at((96, 96)).check_fits(net)
    for name in ("full", "feature_ten_view"):
        with pytest.raises(ConfigError, match="need a network of any image size; this one takes 96 only"):
            load_protocol(name).at((96, 96)).check_fits(net)
    with pytest.raises(ConfigError, match="input_size=224x224"):
        load_protocol("center").check_fits(net)


def test_any_size_networks_take_windows_and_say_what_is_too_small() -> None:
    for net in (network([3, 1]), network(None, head="conv")):
        load_protocol("multi_scale_96_full2").at((96, 96)).check_fits(net)
        with pytest.raises(ConfigError, match="too small"):
            load_protocol("full").at((16, 16)).check_fits(net)


def test_the_smallest_size_of_a_network_is_taken(tmp_path: Path) -> None:
    net = network([6, 3, 1])
    smallest = net.min_input_size
    file = tmp_path / "mine.yaml"
    file.write_text(f"region: 8\nviews: [{{kind: full, scales: [{smallest}, 500]}}]\n")
    load_protocol(str(file)).check_fits(net)
    file.write_text(f"region: 8\nviews: [{{kind: full, scales: [500, {smallest - 1}]}}]\n")
    with pytest.raises(
        ConfigError, match=f"of {smallest - 1} is too small; this network needs {smallest} at least"
    ):
        load_protocol(str(file)).check_fits(net)
