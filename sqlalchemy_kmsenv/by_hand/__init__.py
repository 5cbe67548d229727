"""Stored bytes without a statement: for pipelines, exports and repair."""

from sqlalchemy_kmsenv.by_hand.cells import open_cells, seal_cells
from sqlalchemy_kmsenv.by_hand.explain import Explanation, Finding, explain

__all__ = ["Explanation", "Finding", "explain", "open_cells", "seal_cells"]
