"""Looking for good values of config keys with Optuna: the space, the trials, what came of them."""
