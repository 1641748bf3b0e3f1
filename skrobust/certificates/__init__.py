"""Proofs that no perturbation of a given size changes an answer."""

from ._certify import Certificate, certify
from ._errors import NoCertificateError

__all__ = ["Certificate", "NoCertificateError", "certify"]
