"""Searches for good configurations, on Optuna: `sweep`, `report`, and Protein's sampler and pruner for any study."""

try:
    import optuna  # noqa: F401
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(f"sweeps need Optuna and scikit-learn ({error}): pip install 'jaxpuffer[sweep]'") from error

from jaxpuffer.sweep.protein import Parts, ProteinPruner, ProteinSampler
from jaxpuffer.sweep.report import report
from jaxpuffer.sweep.search import sweep

__all__ = ["Parts", "ProteinPruner", "ProteinSampler", "report", "sweep"]
