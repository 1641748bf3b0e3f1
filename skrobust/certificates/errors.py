"""The exception for models without a certificate."""


class NoCertificateError(ValueError):
    """A step of the model has no certificate."""
