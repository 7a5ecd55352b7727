"""The command line: `samlet-labelstudio`, which serves, and its helpers."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samlet.cluster.options import RayAddress, WorkerCores, check_ray_options
from samlet.errors import UserError
from samlet.utils.console import console, run_app

if TYPE_CHECKING:
    from samlet.cluster.run import RayRun
    from samlet_labelstudio.service import Service

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Url = Annotated[
    str | None, typer.Option(help="Label Studio's address (or LABEL_STUDIO_URL).", metavar="URL")
]
Key = Annotated[
    str | None,
    typer.Option(
        help="API key of a Label Studio user; safer as LABEL_STUDIO_API_KEY.", metavar="KEY"
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="A name from `samlet models`, or a checkpoint; microscopy by default."),
]
EngineName = Annotated[str | None, typer.Option("--engine", help="auto, torch or openvino.")]
PrecisionName = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="Of the image encoder: auto, float32, or bfloat16 (faster, on processors that compute "
        "in it).",
    ),
]
Project = Annotated[int, typer.Option(help="Project number.", min=1)]
DEFAULT_WORKERS = 2
"""Tasks that are pre-annotated at the same time without Ray."""

Labels = Annotated[str, typer.Option(help="Labels of the objects, separated by commas.")]


def main() -> None:
    """The command `samlet-labelstudio`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    # The precision that images are encoded in, for one.
    for name in ("samlet", "samlet_labelstudio"):
        logging.getLogger(name).setLevel(logging.INFO)
    run_app(app)


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; 0.0.0.0 for all, which requires a password."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 9090,
    model: Model = None,
    engine: EngineName = None,
    precision: PrecisionName = None,
    label_studio_url: Url = None,
    api_key: Key = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another host that images may come from; repeatable.", metavar="HOST"),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name by which Label Studio reaches this backend; repeatable.",
            metavar="HOST",
        ),
    ] = None,
) -> None:
    """Serve Label Studio: smart clicks, pre-annotation, and training on annotations.

    Further settings are environment variables, such as the user and password that Label Studio
    must give (BASIC_AUTH_USER, BASIC_AUTH_PASS): see docs/labelstudio.md.
    """
    if context.invoked_subcommand is not None:
        return
    import torch

    from samlet.checkpoints.loading import resolve_path
    from samlet.engines import choose_precision
    from samlet_labelstudio.server import serving
    from samlet_labelstudio.settings import Settings

    given = Settings.read(
        {
            "model": model,
            "engine": engine,
            "precision": precision,
            "label_studio_url": label_studio_url,
            "api_key": api_key,
            "allowed_hosts": tuple(allow_host) if allow_host else None,
            "names": tuple(name) if name else None,
        }
    )
    settings = serving.check_listening(given, host, port)
    # A missing model is downloaded, or reported, before the first request, like a wrong precision.
    resolve_path(settings.model)
    choose_precision(settings.precision, torch.device("cpu"))
    console.print(f"samlet serves {settings.model} at http://{host}:{port} (Ctrl-C stops it).")
    if settings.label_studio_url is None:
        console.print(
            "Without --label-studio-url and --api-key it cannot read images that Label Studio "
            "serves."
        )
    serving.serve(settings, host, port)


@app.command()
def init_project(
    labels: Labels = "object",
    title: Annotated[str, typer.Option(help="Title of the project.")] = "samlet",
    images: Annotated[Path | None, typer.Option(help="Folder of images to upload.")] = None,
    backend_url: Annotated[
        str, typer.Option(help="This backend's address, as seen from Label Studio.")
    ] = "http://localhost:9090",
    label_studio_url: Url = None,
    api_key: Key = None,
) -> None:
    """Create a Label Studio project that is ready for smart clicks."""
    from samlet_labelstudio.label_studio import project
    from samlet_labelstudio.settings import Settings

    settings = Settings.read({"label_studio_url": label_studio_url, "api_key": api_key})
    address = project.init_project(settings, title, _split(labels), backend_url, images)
    console.print(f"Open {address}, choose a task, and switch on Auto-Annotation below the image.")


@app.command()
def preannotate(
    project: Annotated[
        int | None, typer.Option(help="Pre-annotate every task of this project.", min=1)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Or pre-annotate every image in this folder.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="With --images: JSON file to write, for Label Studio to import.")
    ] = Path("tasks.json"),
    labels: Labels = "object",
    prefix: Annotated[
        str,
        typer.Option(
            help="With --images: prefix that turns image paths into addresses for Label Studio."
        ),
    ] = "/data/local-files/?d=",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Tasks processed at the same time; with --ray, number of worker processes.",
            show_default="2; with --ray, as many as fit",
            min=1,
        ),
    ] = None,
    ray: RayAddress = None,
    worker_cores: WorkerCores = None,
    model: Model = None,
    engine: EngineName = None,
    precision: PrecisionName = None,
    label_studio_url: Url = None,
    api_key: Key = None,
) -> None:
    """Find all objects of a project or a folder; resumes where it stopped.

    Environment variables such as SAMLET_MIN_SCORE select what is kept: see docs/labelstudio.md.
    """
    if (project is None) == (images is None):
        raise UserError("Say what to pre-annotate: --project N, or --images FOLDER.")
    if ray is not None and project is not None:
        raise UserError("--ray is for --images: tasks of a project are fetched by this machine.")
    check_ray_options(ray, worker_cores=worker_cores)  # --workers has a meaning without Ray, too.
    service = _service(
        {
            "model": model,
            "engine": engine,
            "precision": precision,
            "label_studio_url": label_studio_url,
            "api_key": api_key,
        }
    )
    try:
        if project is not None:
            failed = _preannotate_project(service, project, workers or DEFAULT_WORKERS)
        else:
            assert images is not None
            with ExitStack() as connection:
                run = None
                if ray is not None:
                    from samlet.cluster.run import ray_run

                    predictor, _ = service.models.of_project("")
                    connected = ray_run(ray, workers, worker_cores, predictor.model)
                    run = connection.enter_context(connected)
                in_process = workers or DEFAULT_WORKERS
                failed = _preannotate_folder(
                    service, images, out, _split(labels), prefix, in_process, run
                )
    except KeyboardInterrupt:
        console.print("Stopped; run the same command again to resume.")
        raise typer.Exit(130) from None
    for message in failed:
        console.print(f"Skipped: {message}")
    if failed:
        raise typer.Exit(1)


@app.command()
def export(
    project: Project,
    out: Annotated[Path, typer.Option(help="COCO file to write.")] = Path("annotations.json"),
    label_studio_url: Url = None,
    api_key: Key = None,
) -> None:
    """Write a project's annotations as COCO, with exact masks of every kind of region.

    Label Studio's own export leaves most kinds out: see docs/labelstudio.md.
    """
    from samlet_labelstudio.bulk.export import export_coco
    from samlet_labelstudio.settings import Settings

    settings = Settings.read({"label_studio_url": label_studio_url, "api_key": api_key})
    made = export_coco(project, out, settings)
    console.print(f"{out} holds {len(made.annotations)} objects of {len(made.images)} images.")
    for message in made.skipped:
        console.print(f"Left out: {message}")


@app.command()
def versions(
    project: Project,
    use: Annotated[str | None, typer.Option(help="Use this version from now on.")] = None,
    use_first: Annotated[
        bool, typer.Option("--use-first", help="Use the model that the backend starts with.")
    ] = False,
) -> None:
    """List the models that a project has trained, or choose another one."""
    service = _service({})
    if use is not None or use_first:
        service.versions.choose(str(project), use)
    chosen = service.versions.chosen(str(project))
    marks = {True: "*", False: " "}
    console.print(f"{marks[chosen is None]} the model that the backend starts with")
    for version in service.versions.all(str(project)):
        figures = " -> ".join(
            f"click {version.facts[when]['click']:.3f}, box {version.facts[when]['box']:.3f}"
            for when in ("before", "after")
        )
        is_chosen = chosen is not None and chosen.name == version.name
        console.print(f"{marks[is_chosen]} {version.name} ({figures})")


def _preannotate_project(service: "Service", project: int, workers: int) -> list[str]:
    from samlet_labelstudio.bulk.project import preannotate_project

    done, earlier, failed = preannotate_project(service, project, workers)
    console.print(f"{done} tasks pre-annotated, {earlier} were done before.")
    console.print("Annotators see them if the project's settings, Annotation, show predictions.")
    return failed


def _preannotate_folder(
    service: "Service",
    images: Path,
    out: Path,
    labels: list[str],
    prefix: str,
    workers: int,
    run: "RayRun | None",
) -> list[str]:
    from samlet_labelstudio.bulk.folder import preannotate_folder

    count, failed = preannotate_folder(service, images, out, labels, prefix, workers, run)
    console.print(f"{out} holds {count} tasks; their labeling config is beside it.")
    return failed


def _service(given: dict[str, Any]) -> "Service":
    from samlet_labelstudio.service import Service
    from samlet_labelstudio.settings import Settings

    return Service(Settings.read(given))


def _split(labels: str) -> list[str]:
    return [label.strip() for label in labels.split(",") if label.strip()]
