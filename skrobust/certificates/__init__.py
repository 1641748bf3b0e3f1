"""Proofs that no perturbation of a given size changes an answer."""

from .certify import Certificate, certify
from .linear_heads import LinearHead
from .margins import OtherClasses, other_classes
from .proofs import Proof
from .randomized_smoothing import RandomizedSmoothingClassifier
from .registry import NoCertificateError, register_certificate

__all__ = [
    "Certificate",
    "LinearHead",
    "NoCertificateError",
    "OtherClasses",
    "Proof",
    "RandomizedSmoothingClassifier",
    "certify",
    "other_classes",
    "register_certificate",
]
