"""Proofs that no perturbation of a given size changes an answer."""

from .certify import Certificate, certify
from .errors import NoCertificateError

__all__ = ["Certificate", "NoCertificateError", "certify"]
