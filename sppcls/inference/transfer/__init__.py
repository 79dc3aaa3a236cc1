"""Linear SVMs on the features of a network."""
