"""The convolutional lasso: coordinate descent on a working set, bands of large signals, dual points, ADMM."""
