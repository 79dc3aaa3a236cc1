"""``result.json`` of version 0.1, read under the names that figures have since."""

from __future__ import annotations

import json
from pathlib import Path

from sppcls.runs.result import read_result


def test_figures_of_version_0_1_have_the_names_of_today(tmp_path: Path) -> None:
    of_96, of_72, full = (
        {"top1_error": error, "top5_error": 1.0, "images": 40} for error in (20.0, 30.0, 10.0)
    )
    old = {
        "epochs": 3,
        "main_size": "96",
        "last": {"96": of_96, "72": of_72},
        "best": {"epoch": 1, "96": of_72},
        "protocols": {"full": {"top1_error": 10.0, "top5_error": 1.0}},
        "test": {"last": {"epoch": 2, "72": of_72, "ten_view": full}, "best": {"epoch": 1, "96": of_96}},
        "class_mean_top1_error": 21.0,
    }
    (tmp_path / "result.json").write_text(json.dumps(old))
    assert read_result(tmp_path) == {
        "epochs": 3,
        "main_size": "96",
        "last": {
            "val_96/top1_error": 20.0, "val_96/top5_error": 1.0, "val_96/images": 40,
            "val_72/top1_error": 30.0, "val_72/top5_error": 1.0, "val_72/images": 40,
        },
        "best": {"epoch": 1, "val_96/top1_error": 30.0, "val_96/top5_error": 1.0, "val_96/images": 40},
        "protocols": {"val_full_96/top1_error": 10.0, "val_full_96/top5_error": 1.0},
        "test": {
            "last": {
                "epoch": 2,
                "test_72/top1_error": 30.0, "test_72/top5_error": 1.0, "test_72/images": 40,
                "test_ten_view_96/top1_error": 10.0, "test_ten_view_96/top5_error": 1.0, "test_ten_view_96/images": 40,
            },
            "best": {
                "epoch": 1,
                "test_best_96/top1_error": 20.0, "test_best_96/top5_error": 1.0, "test_best_96/images": 40,
            },
        },
        "class_mean_top1_error": 21.0,
    }  # fmt: skip


def test_what_is_of_this_version_or_of_no_version_stays(tmp_path: Path) -> None:
    for found in ({"epochs": 1, "last": {"val_96/top1_error": 5.0}}, {"epochs": 1}, {"last": {}}):
        (tmp_path / "result.json").write_text(json.dumps(found))
        assert read_result(tmp_path) == found
