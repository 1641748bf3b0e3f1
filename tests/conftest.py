"""Shared by all tests: bounded threads, and no lines about kernels that are compiled."""

import os

import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ.setdefault("SKROBUST_COMPILE_NOTICE", "0")

settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("suite")
