"""Models run in PyTorch here, unless a test is about the engines: converting takes seconds each."""

import os

os.environ["SAMLET_ENGINE"] = "torch"
