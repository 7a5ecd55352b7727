"""Options of batch commands that work on Ray."""

from typing import Annotated

import typer

from samlet.errors import UserError

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="auto|HOST:PORT",
        help="Work on many machines with Ray: auto for the cluster that this machine is part of, "
        "or else for Ray on this machine alone.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="With --ray: number of worker processes.", show_default="as many as fit", min=1
    ),
]
WorkerCores = Annotated[
    int | None,
    typer.Option(
        help="With --ray: processor cores of each worker.",
        show_default="4, or what the smallest machine has",
        min=1,
    ),
]


def check_ray_options(
    ray: str | None, *, workers: int | None = None, worker_cores: int | None = None
) -> None:
    """Make sure that the number of workers and their cores are not given in vain.

    Raises:
        UserError: one of them was given without --ray.
    """
    for option, value in (("--workers", workers), ("--worker-cores", worker_cores)):
        if ray is None and value is not None:
            raise UserError(f"{option} is for --ray: add --ray auto, or leave it out.")
