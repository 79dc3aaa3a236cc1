

def test_other_sizes_are_corrected_for_all_of_them(tmp_path: Path) -> None:
    """Three pairs' worth of sizes with the same plain p: Holm gives each at least three times it."""
