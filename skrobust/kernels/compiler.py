"""Decorators that compile the kernels.

A kernel that Python calls is compiled whole, with a cache on disk. Called from another kernel, the same function is a
part of that kernel: numba types and translates it, and LLVM optimises it together with its caller. Numba alone would
also compile each part to machine code, with wrappers for Python, which takes twice as long.
"""

import functools

from numba import config
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering

from .cache import KernelCache
from .notice import compile_notice
from .vector_ir import EXPLICIT, VECTOR_BYTES

_optimized = set()


class _PartLibrary(JITCodeLibrary):
    """LLVM code of a part: functions simplified one by one, but no machine code."""

    optimized = False

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout
        for function in ll_module.functions:
            if not function.is_declaration:  # numba would create a pass manager for each
                manager, builder = self._codegen._function_pass_manager()
                manager.run(function, builder)

    def _optimize_final_module(self):
        """Left to the caller, unless the part asks for more."""
        if self.optimized:
            manager, builder = self._codegen._module_pass_manager()
            manager.run(self._final_module, builder)

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):
    _name = "kernel_part_lowering"

    def run_pass(self, state):
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.optimized = state.func_id.func in _optimized
        state.flags.no_cpython_wrapper = state.flags.no_cfunc_wrapper = state.flags.no_compile = True
        super().run_pass(state)
        # Numba finds the LLVM code by the entry point: any builtin that no other part has.
        entry = object().__sizeof__
        state.targetctx.insert_user_function(entry, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=entry)
        return True


class _PartCompiler(CompilerBase):
    def define_pipelines(self):
        standard = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager = PassManager("kernel_part")
        for step, description in standard.passes:
            manager.add_pass(_PartLowering if step is NativeLowering else step, description)
        manager.finalize()
        return [manager]


class _KernelCompiler(Compiler):
    def compile_extra(self, func):
        with compile_notice(func):
            return super().compile_extra(func)


class _Part(CPUDispatcher):
    """A kernel as other kernels call it."""

    def get_call_template(self, args, kws):
        # A loop variable that begins at 0 is a literal until its type is known, and must not be compiled as such too.
        return super().get_call_template(
            tuple(map(types.unliteral, args)), {name: types.unliteral(type_) for name, type_ in kws.items()}
        )


class _Kernel(CPUDispatcher):
    """A kernel as Python calls it."""

    def __init__(self, function, options):
        super().__init__(function, targetoptions=options, pipeline_class=_KernelCompiler)
        self._part = _Part(function, targetoptions=options, pipeline_class=_PartCompiler)
        self._cache = KernelCache(function, f"vectors{VECTOR_BYTES if EXPLICIT else 0}")

    @property
    def _numba_type_(self):
        return types.Dispatcher(self._part)


def kernel(function=None, *, optimized=False, **options):
    """Compile a function for the hot loops, without the interpreter's lock and with a cache on disk.

    `optimized` optimises it as a part, too, before it is linked into a kernel: 0.05 s of compiling, for faster loops.
    """
    if function is None:
        return functools.partial(kernel, optimized=optimized, **options)
    if config.DISABLE_JIT:
        return function
    if optimized:
        _optimized.add(function)
    options = {"nopython": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, **options}
    return _Kernel(function, {"boundscheck": None, **options})


inlined = functools.partial(kernel, forceinline=True)
