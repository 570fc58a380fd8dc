/*! Training: heads on cached features, backbones, both together. */
