"""The convolutional lasso: coordinate descent on a working set, bands, dual points."""
