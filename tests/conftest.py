"""How the whole suite runs: which engine, and how many threads.

Models run in PyTorch here, unless a test is about the engines: converting takes seconds each. With
`-n` there are several processes of one thread each, which is faster than one process of several.
"""

import os

os.environ["SAMLET_ENGINE"] = "torch"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
