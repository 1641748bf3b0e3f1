"""Proximal gradient steps for a fixed number of iterations, for arrays and tensors and any penalty."""

from skrobust.operators.layered.dictionary import analyze, synthesize
from skrobust.operators.layered.kernels import shrink_and_extrapolate
from skrobust.pursuits.penalties.l1 import is_plain_l1
from skrobust.signals import is_tensor

from .momentum import next_momentum
from .segments import in_segments


def proximal_steps(X, operator, alpha, penalty, z, step, n_iter, momentum, n_jobs=None):
    """`n_iter` (accelerated) proximal gradient steps from codes z, on arrays or tensors."""
    threshold = alpha * step

    def advance(start, n_steps, state):
        z, extrapolated, t = state
        for _ in range(n_steps):
            slopes = analyze(operator, X - synthesize(operator, extrapolated, n_jobs), n_jobs)
            t, momentum_t = next_momentum(t)
            momentum_t = momentum_t if momentum else 0.0
            z, extrapolated = proximal_step(extrapolated, z, slopes, step, threshold, penalty, momentum_t, n_jobs)
        return z, extrapolated, t

    return in_segments(advance, (z, z, 1.0), n_iter, X, operator.components, threshold)[0]


def proximal_step(extrapolated, previous_codes, slopes, step, threshold, penalty, momentum, n_jobs=None):
    """Codes ``S(extrapolated + step slopes)``, and ``codes + momentum (codes - previous_codes)``.

    S is the proximal operator of `threshold` times the penalty; the l1 norm takes one pass over memory. For tensors
    `slopes` may be None: zero.
    """
    has_momentum = is_tensor(momentum) or momentum
    if not is_plain_l1(penalty):
        codes = penalty.prox(extrapolated if slopes is None else extrapolated + step * slopes, threshold)
        return codes, codes + momentum * (codes - previous_codes) if has_momentum else codes
    positive = penalty.positive
    if is_tensor(extrapolated):
        from skrobust.pursuits.proximal.fused import shrink_with_momentum

        previous = previous_codes if has_momentum else None
        return shrink_with_momentum(extrapolated, previous, threshold, momentum, positive, slopes=slopes, step=step)
    return shrink_and_extrapolate(extrapolated, previous_codes, slopes, step, threshold, momentum, positive, n_jobs)
