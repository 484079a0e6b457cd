"""The long form of the samplers' test: every shape with every sampler, about half an hour.

TRITON_INTERPRET=1 python -m tests.interpreted.every_shape
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import product

from tests.concurrent_grid import concurrent_grid
from tests.interpreted.networks import samples_are_the_references, shape
from triton_kernels.samplers import SAMPLERS, Pipeline


def main() -> None:
    """Print each that is right; the first that is not raises."""
    for streams, layers, residual in product((1, 2, 5), (1, 3, 10), (16, 48, 64, 128)):
        for kind in SAMPLERS.values():
            with concurrent_grid(seed=residual) if kind is Pipeline else nullcontext():
                samples_are_the_references(kind, shape(residual, layers, skip=32), streams)
            print(f"{layers}/{residual}/32 {kind.name} x {streams}", flush=True)


if __name__ == "__main__":
    main()
