"""The convolutional lasso: coordinate descent on working sets, by teams of threads; dual points; ADMM."""
