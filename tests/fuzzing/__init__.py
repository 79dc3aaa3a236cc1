"""Random inputs: what they are made of, and what must hold for each. The tests here try a few, `tests/long` many."""
