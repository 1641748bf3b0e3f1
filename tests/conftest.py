"""Shared by all tests: bounded threads."""

import torch
from hypothesis import settings

torch.set_num_threads(1)

settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("suite")
