"""Training of torch networks on labelled images: one loop, with objectives, schedules, augmentation and checkpoints."""

from .augmentation import RandomShift
from .checkpoint import TrainingCheckpoint
from .loop import Recipe, train_network
from .objectives import CrossEntropy, Mart, Trades

__all__ = ["CrossEntropy", "Mart", "RandomShift", "Recipe", "TrainingCheckpoint", "Trades", "train_network"]
