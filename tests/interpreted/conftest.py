"""Tests that run the GPU kernels in Triton's interpreter; ``tests/test_triton.py`` starts them.

Triton decides once a process whether it interprets: these cannot share one with compiled kernels.
"""

from __future__ import annotations

import os

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]
