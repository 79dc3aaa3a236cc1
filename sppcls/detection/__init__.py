"""Object detection with the regions of a network's feature maps (He et al. 2015, sec. 4)."""
