"""Errors that the user can fix."""


class UsageError(Exception):
    """The command cannot be run; the message says why and what to do."""
