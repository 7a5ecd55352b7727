"""The command line: `samlet-labelstudio`, which serves, and its helpers."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samlet.errors import UserError
from samlet.utils.console import console, run_app
from samlet_labelstudio.settings import Settings

if TYPE_CHECKING:
    from samlet_labelstudio.service import Service

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Url = Annotated[
    str | None, typer.Option(help="Label Studio's address (or LABEL_STUDIO_URL).", metavar="URL")
]
Key = Annotated[
    str | None,
    typer.Option(help="Of a Label Studio user; safer as LABEL_STUDIO_API_KEY.", metavar="KEY"),
]
Model = Annotated[
    str | None,
    typer.Option(help="A name from `samlet models`, or a checkpoint; nuclei by default."),
]
EngineName = Annotated[str | None, typer.Option("--engine", help="auto, torch or openvino.")]
Project = Annotated[int, typer.Option(help="The project's number.", min=1)]
Labels = Annotated[str, typer.Option(help="Labels of the objects, with commas between them.")]


def main() -> None:
    """The command `samlet-labelstudio`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    run_app(app)


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="Listen here; 0.0.0.0 for everybody, who need a password then.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port there.", min=1, max=65535)] = 9090,
    model: Model = None,
    engine: EngineName = None,
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
    """Serve Label Studio: smart clicks, pre-annotation, and learning from annotations.

    Further settings are variables of the environment, such as the user and password that Label
    Studio must give (BASIC_AUTH_USER, BASIC_AUTH_PASS): see docs/labelstudio.md.
    """
    if context.invoked_subcommand is not None:
        return
    from samlet.checkpoints.loading import resolve_path
    from samlet_labelstudio.server.serving import ready_to_serve
    from samlet_labelstudio.server.serving import serve as run

    given = Settings.read(
        {
            "model": model,
            "engine": engine,
            "label_studio_url": label_studio_url,
            "api_key": api_key,
            "allowed_hosts": tuple(allow_host) if allow_host else None,
            "names": tuple(name) if name else None,
        }
    )
    settings = ready_to_serve(given, host, port)
    # Downloaded, or found missing, before anybody waits for it.
    resolve_path(settings.model)
    console.print(f"samlet serves {settings.model} at http://{host}:{port} (Ctrl-C stops it).")
    if settings.label_studio_url is None:
        console.print(
            "Without --label-studio-url and --api-key it cannot read what Label Studio serves."
        )
    run(settings, host, port)


@app.command()
def init_project(
    labels: Labels = "object",
    title: Annotated[str, typer.Option(help="Of the project.")] = "samlet",
    images: Annotated[Path | None, typer.Option(help="Folder of images to upload.")] = None,
    backend_url: Annotated[
        str, typer.Option(help="This backend's address, as Label Studio sees it.")
    ] = "http://localhost:9090",
    label_studio_url: Url = None,
    api_key: Key = None,
) -> None:
    """Make a Label Studio project that is ready to click in."""
    from samlet_labelstudio.label_studio.project import init_project as run

    settings = Settings.read({"label_studio_url": label_studio_url, "api_key": api_key})
    address = run(settings, title, _listed(labels), backend_url, images)
    console.print(f"Open {address}, choose a task, and switch Auto-Annotation on below the image.")


@app.command()
def preannotate(
    project: Annotated[int | None, typer.Option(help="Every task of this project.", min=1)] = None,
    images: Annotated[Path | None, typer.Option(help="Or every image in this folder.")] = None,
    out: Annotated[Path, typer.Option(help="With --images: the JSON to import.")] = Path(
        "tasks.json"
    ),
    labels: Labels = "object",
    prefix: Annotated[
        str, typer.Option(help="With --images: what makes their paths Label Studio's addresses.")
    ] = "/data/local-files/?d=",
    workers: Annotated[int, typer.Option(help="Tasks at once.", min=1, max=32)] = 2,
    model: Model = None,
    engine: EngineName = None,
    label_studio_url: Url = None,
    api_key: Key = None,
) -> None:
    """Find all objects of a whole project, or of a folder; goes on where it stopped.

    Variables such as SAMLET_MIN_SCORE choose what is kept: see docs/labelstudio.md.
    """
    from samlet_labelstudio.service import bulk as work

    if (project is None) == (images is None):
        raise UserError("Say what to pre-annotate: --project N, or --images FOLDER.")
    service = _service(
        {
            "model": model,
            "engine": engine,
            "label_studio_url": label_studio_url,
            "api_key": api_key,
        }
    )
    try:
        if project is not None:
            done, before, failed = work.preannotate_project(service, project, workers)
            console.print(f"{done} tasks pre-annotated, {before} had been before.")
            console.print(
                "Annotators see them if the project's settings, Annotation, show predictions."
            )
        else:
            assert images is not None
            count, failed = work.preannotate_folder(
                service, images, out, _listed(labels), prefix, workers
            )
            console.print(f"{out} holds {count} tasks; their labeling config is beside it.")
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on where it was.")
        raise typer.Exit(130) from None
    for sentence in failed:
        console.print(f"Left out: {sentence}")
    if failed:
        raise typer.Exit(1)


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


def _service(given: dict[str, Any]) -> "Service":
    from samlet_labelstudio.service import Service

    return Service(Settings.read(given))


def _listed(labels: str) -> list[str]:
    return [label.strip() for label in labels.split(",") if label.strip()]
