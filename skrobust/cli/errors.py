"""Errors that a user can mend."""


class UsageError(Exception):
    """What the user asked for cannot be done; the message says why and what to do."""
