"""The exceptions of the loaders."""


class DatasetNotFoundError(FileNotFoundError):
    """The files of a dataset are in none of the searched folders; the message lists the folders and what to do."""


class DatasetFileError(ValueError):
    """A file is truncated, damaged, of another format, or not the published one; the message names it."""
