"""The result of a check, with its evidence."""

import functools
from dataclasses import asdict, dataclass, field

from skrobust.bridge import NoGradientError

PASSED, WARNING, SKIPPED = "passed", "warning", "not run"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one masking check.

    Attributes
    ----------
    check : str
        Meaning of a warning, in a few words.
    status : {"passed", "warning", "not run"}
    evidence : str
        The measurement, in one sentence.
    figures : dict
        Its figures.
    advice : str
        What to do after a warning; empty otherwise.
    """

    check: str
    status: str
    evidence: str
    figures: dict = field(default_factory=dict)
    advice: str = ""

    @property
    def fired(self):
        """Whether this is a warning."""
        return self.status == WARNING

    def as_dict(self):
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self):
        advice = f" {self.advice}" if self.advice else ""
        return f"{self.status}: {self.check}. {self.evidence}{advice}"


class NotApplicable(Exception):
    """Raised by a check that does not apply; the message says why."""


def masking_check(title, *, needs_gradient=True):
    """Decorator that turns a function of a `Probe` into a check.

    The function returns ``(fired, evidence, figures, advice)`` or raises `NotApplicable`; the check returns a
    `Verdict`. `title` says what a warning would mean, in a few words. With `needs_gradient` it is not run on models
    that have none.
    """

    def decorator(function):
        @functools.wraps(function)
        def check(probe):
            try:
                if probe.n == 0:
                    raise NotApplicable("The model classifies no image correctly.")
                if needs_gradient and probe.module is None:
                    raise NotApplicable("The model has no gradients, so there is no white-box attack to check.")
                fired, evidence, figures, advice = function(probe)
            except (NotApplicable, NoGradientError) as reason:
                return Verdict(title, SKIPPED, str(reason))
            figures = {key: _plain(value) for key, value in figures.items()}
            return Verdict(title, WARNING if fired else PASSED, evidence, figures, advice if fired else "")

        check.title = title
        return check

    return decorator


def _plain(value):
    """NumPy numbers as Python numbers."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value
