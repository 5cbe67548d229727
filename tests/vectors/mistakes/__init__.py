"""Mistakes that another reader may make, by clause of FORMAT.md."""

from __future__ import annotations

from tests.vectors.mistakes import (
    attempts,
    cells,
    contexts,
    envelopes,
    json_documents,
    numbers,
    texts,
    times,
)
from tests.vectors.mistakes.planting import Mistakes

MISTAKES: Mistakes = {
    name: methods
    for module in (texts, numbers, times, json_documents, envelopes, cells, contexts, attempts)
    for name, methods in module.MISTAKES.items()
}
