"""What the pyramid saw in a photo."""
