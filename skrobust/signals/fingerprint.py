"""A hash of values and models by their contents, the same in every process."""

import hashlib
import inspect
import types

import numpy as np
from scipy import sparse

from .tensors import is_tensor

# Attributes of torch modules other than parameters, buffers, submodules and settings: hooks and bookkeeping.
_MODULE_STATE = ("_hooks", "_pre_hooks", "_hooks_with_kwargs", "_hooks_always_called", "_is_full_backward_hook")
# Attributes that a skorch network uses to predict. The others belong to training: history, times, optimiser, callbacks.
_SKORCH = ("module_", "criterion_", "classes_", "threshold")


def fingerprint(value):
    """A hash of `value` by contents: equal models have equal hashes in all processes.

    Estimators and other objects are hashed by class and attributes, arrays and tensors by their values, functions by
    name and code, networks by parameters and settings, skorch networks without their training history.
    """
    digest = hashlib.sha256()
    _Walk(digest).feed(value)
    return digest.hexdigest()


class _Walk:
    def __init__(self, digest):
        self.digest = digest
        self.visited = {}  # by id; kept alive so that ids stay unique

    def add(self, *values):
        for value in values:
            data = value if isinstance(value, bytes) else str(value).encode()
            self.digest.update(f"{len(data)}:".encode())
            self.digest.update(data)

    def feed(self, value):
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
            self.add(type(value).__name__, value if isinstance(value, bytes) else repr(value))
        elif isinstance(value, type):
            self.add("type", value.__module__, value.__qualname__)
        elif isinstance(value, np.ndarray):
            self.array(value)
        elif is_tensor(value):
            self.array(value.detach().cpu().to_dense().contiguous().numpy())
        elif id(value) in self.visited:
            self.add("again", self.visited[id(value)][0])
        else:
            self.visited[id(value)] = len(self.visited), value
            self.describe(value)

    def describe(self, value):
        if sparse.issparse(value):
            self.add(type(value).__name__)
            self.array(value.toarray())
        elif isinstance(value, dict):
            self.add("dict", len(value))
            for key in sorted(value, key=repr):
                self.feed(key)
                self.feed(value[key])
        elif isinstance(value, (list, tuple)):
            self.add(type(value).__name__, len(value))
            for part in value:
                self.feed(part)
        elif isinstance(value, (set, frozenset)):
            self.add("set", *sorted(fingerprint(part) for part in value))
        elif isinstance(value, np.random.RandomState):
            self.feed(("RandomState", *value.get_state()))
        elif isinstance(value, np.random.Generator):
            self.feed(("Generator", value.bit_generator.state))
        elif isinstance(value, types.MethodType):
            self.feed((value.__func__, value.__self__))
        elif inspect.isroutine(value) or isinstance(value, np.ufunc):
            self.function(value)
        else:
            self.object(value)

    def array(self, array):
        self.add("array", array.dtype.str, array.shape)
        if array.dtype.hasobject:
            self.feed(array.tolist())
        else:
            self.add(np.ascontiguousarray(array).tobytes())

    def function(self, function):
        self.add("function", getattr(function, "__module__", ""), getattr(function, "__qualname__", repr(function)))
        code = getattr(function, "__code__", None)
        if code is not None:
            constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
            self.feed((code.co_code, code.co_names, constants, function.__defaults__))

    def object(self, value):
        cls = type(value)
        self.add("object", cls.__module__, cls.__qualname__)
        best = getattr(value, "best_estimator_", None)
        if best is not None:  # a search predicts with it; its other attributes contain times
            self.feed(best)
            return
        self.feed(_state(value))


def _state(value):
    """The state of `value`: a dict of attributes, or its pickle state."""
    if any(base.__module__.startswith("skorch.") for base in type(value).__mro__):
        return {name: vars(value).get(name) for name in _SKORCH}
    if any(base.__module__ == "torch.nn.modules.module" for base in type(value).__mro__):
        state = vars(value)  # modules with parametrizations have no pickle state
        dropped = {"training", *(name for name in state if name.endswith(_MODULE_STATE))}
        return {name: part for name, part in state.items() if name not in dropped}
    state = value.__getstate__()
    if not isinstance(state, dict):
        # Objects of compiled classes, such as trees, have a pickle state.
        return state if state is not None else value.__reduce_ex__(2)[1:]
    return state
