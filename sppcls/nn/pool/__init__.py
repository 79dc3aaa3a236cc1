"""Pooling of feature maps into the bins of a pyramid: the plain form, the fast ones, and windows."""

__all__: list[str] = []
