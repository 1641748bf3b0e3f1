"""What is raised where nothing can be proved."""


class NoCertificateError(ValueError):
    """A step of the model is not one whose worst case is known."""
