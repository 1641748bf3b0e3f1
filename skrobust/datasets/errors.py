"""The two ways in which a set of images can fail to load."""


class DatasetNotFoundError(FileNotFoundError):
    """The files of a dataset are in none of the folders that were searched; the message lists them and what to do."""


class DatasetFileError(ValueError):
    """A file is truncated, damaged, of another format, or not the published one; the message names it."""
