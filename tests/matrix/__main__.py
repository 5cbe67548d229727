"""``python -m tests.matrix``: run the matrix and print counts and faults."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.matrix import kept
from tests.matrix.lanes import LANES
from tests.matrix.sweep import Results, shares, sweep


def main() -> int:
    """The exit status: 1 where anything is a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--strength", type=int, default=2, help="2: pairs, 3: triples")
    parser.add_argument("--parts", type=int, default=1, help="processes a lane")
    parser.add_argument("--write", action="store_true", help="keep what is refused")
    parser.add_argument("lanes", nargs="*", default=[*LANES], help=", ".join(LANES))
    options = parser.parse_args()
    faults = 0
    seen = {}
    share = shares(options.lanes, options.strength)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        running = {
            name: [
                pool.submit(sweep, name, share[name], (i, options.parts))
                for i in range(options.parts)
            ]
            for name in options.lanes
        }
        for name, parts in running.items():
            results = [each for part in parts for each in part.result()]
            seen[name] = results
            print(f"{name:15} {counted(results)}", flush=True)
            print_faults(results)
            faults += sum(outcome.verdict == "fault" for _, outcome in results)
    if options.write:
        kept.write({name: seen[name] for name in seen if LANES[name].database == name})
    return 1 if faults else 0


def counted(results: Results) -> str:
    """How many cells came out how."""
    found = Counter(outcome.verdict for _, outcome in results)
    return "  ".join(f"{name} {found[name]}" for name in ("right", "refused", "absent", "fault"))


def print_faults(results: Results) -> None:
    """One line a kind, with an example of each."""
    kinds = defaultdict(list)
    for cell, outcome in results:
        if outcome.verdict == "fault":
            kinds[cell.shape, outcome.error].append((cell, outcome))
    for (shape, error), found in sorted(kinds.items()):
        cell, outcome = found[0]
        print(f"  {len(found):4} {shape} ({cell.variant}) {error}: {cell.design}")
        print(f"       {outcome.detail[:400]}")


if __name__ == "__main__":
    sys.exit(main())
