"""Options of batch commands that work on Ray."""

from typing import Annotated

import typer

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
