"""Training. This package can be called: `lga_jax.train(recipe, workdir)` is `lga_jax.train.run.train`.

Python sets the attribute `train` of lga_jax to this package as soon as any module of it is imported.
"""

import sys
from types import ModuleType


class _Callable(ModuleType):
    def __call__(self, *args: object, **options: object) -> None:
        from lga_jax.train.run import train

        train(*args, **options)


sys.modules[__name__].__class__ = _Callable
