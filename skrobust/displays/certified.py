"""Certified accuracy against eps."""

import numpy as np

from skrobust.certificates import certify
from skrobust.displays.drawing.curves import draw_curves
from skrobust.evaluation import wilson_interval

from .base import Display


class CertifiedAccuracyDisplay(Display):
    """Certified accuracy against eps, one curve per model, with confidence intervals.

    Create it with `from_estimator` or `from_certificates`.

    Parameters
    ----------
    certificates : dict of str to Certificate
        Of the same norm, with radii.
    eps : array-like or None, default=None
        Radii at which the curves are drawn. None: 25 from 0 to the largest finite radius of all.
    baseline : str or None, default=None
        The curve drawn in grey.

    Attributes
    ----------
    curves : dict of str to (eps, accuracy, low, high)
    ax_ : matplotlib.axes.Axes
    lines_ : dict of str to matplotlib.lines.Line2D

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.displays import CertifiedAccuracyDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression(max_iter=500).fit(X[:900] / 16, y[:900])
    >>> display = CertifiedAccuracyDisplay.from_estimator(model, X[900:] / 16, y[900:], eps=[0, 0.05, 0.1])
    >>> list(display.lines_)
    ['LogisticRegression']
    """

    def __init__(self, certificates, *, eps=None, baseline=None):
        norms = {certificate.norm for certificate in certificates.values()}
        if len(norms) != 1:
            raise ValueError(f"certificates must be of one norm, got {sorted(norms)}.")
        for name, certificate in certificates.items():
            if certificate.radius is None:
                raise ValueError(f"The certificate {name!r} has no radii: call certify with radius=True.")
        self.certificates, self.eps, self.baseline = certificates, eps, baseline
        (self.norm,) = norms

    @classmethod
    def from_estimator(cls, estimator, X, y, *, eps=None, norm="linf", clip=(0, 1), name=None, ax=None):
        """Certify `estimator` and draw its curve.

        Parameters
        ----------
        eps : array-like or None, default=None
            Radii at which the curve is drawn. None: 25 from 0 to the largest finite one.
        norm : {"linf", "l2", "l1"}, default="linf"
        clip : pair of float or None, default=(0, 1)
            Range of valid values of perturbed images.
        name : str or None, default=None
            Label of the curve. None: the class of `estimator`.
        """
        certificate = certify(estimator, X, y, 0.0, norm=norm, clip=clip)
        return cls.from_certificates({name or type(estimator).__name__: certificate}, eps=eps, ax=ax)

    @classmethod
    def from_certificates(cls, certificates, *, eps=None, baseline=None, ax=None):
        """Draw the curves of results of `certify`.

        Parameters
        ----------
        certificates : dict of str to Certificate
            Of the same norm, with radii.
        eps : array-like or None, default=None
            Radii at which the curves are drawn. None: 25 from 0 to the largest finite radius of all.
        baseline : str or None, default=None
            The curve drawn in grey.
        """
        return cls(certificates, eps=eps, baseline=baseline).plot(ax=ax)

    @property
    def curves(self):
        """Radii, certified accuracy, and the ends of its 95 % confidence interval, by model."""
        if self.eps is None:
            radii = np.concatenate([certificate.radius for certificate in self.certificates.values()])
            eps = np.linspace(0, max(radii[np.isfinite(radii)].max(initial=0.0), 1e-3), 25)
        else:
            eps = np.unique(np.asarray(self.eps, dtype=np.float64))
        curves = {}
        for name, certificate in self.certificates.items():
            accuracy, n = certificate.accuracy_at(eps), len(certificate.correct)
            ends = np.array([wilson_interval(round(share * n), n) for share in accuracy])
            curves[name] = (eps, accuracy, *ends.T)
        return curves

    def plot(self, ax=None):
        """Draw the curves."""
        sizes = sorted({len(certificate.correct) for certificate in self.certificates.values()})
        subtitle = f"proved, n = {', '.join(map(str, sizes))}"
        settings = {"norm": self.norm, "baseline": self.baseline, "subtitle": subtitle}
        self.ax_, self.lines_ = draw_curves(ax, self.curves, quantity="certified accuracy", **settings)
        self.figure_ = self.ax_.figure
        return self
