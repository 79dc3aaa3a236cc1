"""What a trained network is used for: predictions, features, transfer, export and explanation."""
