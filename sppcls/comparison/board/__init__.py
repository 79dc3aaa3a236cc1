"""TensorBoard laid out for a comparison."""
