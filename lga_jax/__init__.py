"""LGA R-CNN in JAX: Faster R-CNN with FPN and a loss-guided Gaussian attention head.

    import lga_jax

    model = lga_jax.load("runs/demo")
    for found in model.predict("street.jpg"):
        print(found.name, found.score, found.box)

docs/api.md describes all names. A name is imported at its first use: `import lga_jax` alone loads neither jax nor a
device.
"""

import importlib

TYPE_CHECKING = False  # True for type checkers; the module typing takes time to import
if TYPE_CHECKING:
    from lga_jax.errors import UserError
    from lga_jax.evaluation.evaluate import EvalResult, evaluate
    from lga_jax.exporting.export import export
    from lga_jax.inference.predictor import Detection, Predictor, load
    from lga_jax.inference.views import Views
    from lga_jax.models.build import build_detector
    from lga_jax.processes.join import join_processes
    from lga_jax.training.run import open_run, train

    __version__: str

__all__ = [
    "Detection",
    "EvalResult",
    "Predictor",
    "UserError",
    "Views",
    "__version__",
    "build_detector",
    "evaluate",
    "export",
    "join_processes",
    "load",
    "open_run",
    "train",
]

_MODULES = {
    "Detection": "lga_jax.inference.predictor",
    "EvalResult": "lga_jax.evaluation.evaluate",
    "Predictor": "lga_jax.inference.predictor",
    "UserError": "lga_jax.errors",
    "Views": "lga_jax.inference.views",
    "build_detector": "lga_jax.models.build",
    "evaluate": "lga_jax.evaluation.evaluate",
    "export": "lga_jax.exporting.export",
    "join_processes": "lga_jax.processes.join",
    "load": "lga_jax.inference.predictor",
    "open_run": "lga_jax.training.run",
    "train": "lga_jax.training.run",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("lga_jax")
    if name not in _MODULES:
        raise AttributeError(f"module 'lga_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
