"""Where half precision pays."""

import torch


def half_precision(device_type: str, wanted: bool = True) -> torch.autocast:
    """Autocast to bfloat16 if `wanted`, but on a CPU only where it has wide enough registers.

    Args:
        device_type: "cpu", "cuda" or "mps". CPUs without AVX-512 emulate bfloat16, which is slower
            than float32.
        wanted: False gives a context that changes nothing.
    """
    capable = device_type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.autocast(device_type, torch.bfloat16, enabled=wanted and capable)
