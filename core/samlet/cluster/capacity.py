"""How many workers of a size fit on the machines of a cluster."""

from dataclasses import dataclass
from typing import Any

from samlet.errors import UserError

MAX_DEFAULT_CORES = 4
"""Cores of a worker unless another number is asked for: with more, each adds less and less."""


@dataclass(frozen=True)
class WorkerSize:
    """What a worker takes of its machine.

    Attributes:
        cores: number of processor cores.
        gpus: number of GPUs.
        memory: bytes of main memory.
    """

    cores: int
    gpus: int
    memory: int


def choose_size(cores: int | None, memory: int) -> WorkerSize:
    """The size of workers: one per GPU where the cluster has GPUs, or else per group of cores.

    Args:
        cores: of a worker; None for four, or what the smallest machine has.
        memory: in bytes that a worker needs.

    Raises:
        UserError: not a single one would fit.
    """
    machines = _machines()
    with_gpus = [machine for machine in machines if machine.get("GPU", 0) >= 1]
    used = with_gpus or [machine for machine in machines if machine.get("CPU", 0) >= 1]
    gpus = 1 if with_gpus else 0
    if cores is None:
        least = min((_cores_per_worker(machine, gpus) for machine in used), default=1)
        cores = max(1, min(MAX_DEFAULT_CORES, least))
    size = WorkerSize(cores, gpus, memory)
    if count_places(size) == 0:
        raise UserError(_why_none_fits(size, machines))
    return size


def count_places(size: WorkerSize) -> int:
    """How many workers the machines that are there now have room for."""
    return sum(_places(machine, size) for machine in _machines())


def is_machine_alive(node: str) -> bool:
    """Whether a machine, by Ray's id, is still part of the cluster."""
    import ray

    return any(each["NodeID"] == node and each["Alive"] for each in ray.nodes())


def _machines() -> list[dict[str, Any]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _cores_per_worker(machine: dict[str, Any], gpus: int) -> int:
    return int(machine.get("CPU", 0) // (machine["GPU"] if gpus else 1))


def _places(machine: dict[str, Any], size: WorkerSize) -> int:
    needs = {"CPU": size.cores, "GPU": size.gpus, "memory": size.memory}
    return int(min(machine.get(kind, 0) // need for kind, need in needs.items() if need))


def _why_none_fits(size: WorkerSize, machines: list[dict[str, Any]]) -> str:
    cores = max((machine.get("CPU", 0) for machine in machines), default=0)
    if cores < size.cores:
        return (
            f"No machine of the cluster has {size.cores} cores for a worker (the largest has "
            f"{cores:.0f}): give a smaller --worker-cores."
        )
    memory = max((machine.get("memory", 0) for machine in machines), default=0)
    return (
        f"No machine of the cluster has the {size.memory / 1e9:.1f} GB of memory that a worker "
        f"with this model needs (the largest gives Ray {memory / 1e9:.1f} GB): choose a smaller "
        "model, or start Ray there with a larger --memory."
    )
