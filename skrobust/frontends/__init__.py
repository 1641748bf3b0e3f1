"""Front ends: images to cleaner images of the same shape."""
