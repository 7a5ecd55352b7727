"""The command line: `samlet segment | everything | demo | models | convert | export`, training."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

import samlet
from samlet.cli import training as cli_training
from samlet.errors import UserError
from samlet.images import DEFAULT_MAX_PIXELS
from samlet.utils.console import console, run_app
from samlet.utils.messages import pluralize

if TYPE_CHECKING:
    import numpy as np

app = typer.Typer(
    help="A small Segment Anything: from clicks and boxes to masks, offline, on a laptop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ImageFile = Annotated[Path, typer.Argument(help="PNG, JPEG or TIFF.")]
Model = Annotated[str, typer.Option(help="A name from `samlet models`, or a checkpoint file.")]
EngineName = Annotated[
    str, typer.Option("--engine", help="auto, torch or openvino (the fastest on a CPU).")
]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Channels = Annotated[
    str | None, typer.Option(help="1 to 3 channels of a multichannel image, as 0,2 (from 0).")
]
MaxPixels = Annotated[int, typer.Option(help="Refuse images with more pixels than this.")]


def main() -> None:
    """The command `samlet`."""
    run_app(app)


@app.callback(invoke_without_command=True)
def _about(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"samlet {samlet.__version__}")
        raise typer.Exit


@app.command()
def segment(
    image: ImageFile,
    out: Out,
    point: Annotated[list[str] | None, typer.Option(help="X,Y on the object; repeatable.")] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="X,Y beside the object; repeatable.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="X1,Y1,X2,Y2 around the object.")] = None,
    model: Model = "nuclei",
    engine: EngineName = "auto",
    channels: Channels = None,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    add: Annotated[
        bool, typer.Option("--add", help="Add the object to those that OUT has of this image.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over what OUT has of this image.")
    ] = False,
) -> None:
    """Segment one object from clicks, a box, or both. Coordinates are pixels from the upper left.

    A single click is ambiguous, so three masks are made, and the one that the model trusts most is
    kept; more prompts than that ask for one mask.
    """
    from samlet.modeling.fingerprint import model_fingerprint
    from samlet.outputs.results import Results, image_source, read_results, write_results

    positive = [_numbers(text, 2, "--point") for text in point or []]
    beside = [_numbers(text, 2, "--negative") for text in negative or []]
    corners = None if box is None else _numbers(box, 4, "--box")
    if not positive and corners is None:
        raise UserError("Say what to segment: --point X,Y on the object, or --box X1,Y1,X2,Y2.")
    if add and replace:
        raise UserError("Give --add or --replace, not both.")
    pixels = _read(image, channels, max_pixels)
    before = None if replace else read_results(out, image)
    source = image_source(image)
    if before is not None and not add:
        raise UserError(
            f"{out} has {pluralize(len(before.records), 'object')} of {image.name} already: give "
            "--add to add this one, --replace to write over them, or another --out."
        )
    if before is not None and before.info["image"] != source["image"]:
        raise UserError(
            f"The objects of {image.name} in {out} are of another image, or {image} has changed "
            "since: give --replace to write over them, or another --out."
        )
    coords = positive + beside
    labels = [1] * len(positive) + [0] * len(beside)
    loaded = samlet.load(model)
    predictor = samlet.Predictor(loaded, engine)
    answer = predictor.segment(
        predictor.encode(pixels),
        coords or None,
        labels or None,
        corners,
        multimask_output=len(coords) == 1 and corners is None,
    )
    mask, score = answer.best, float(answer.iou_predictions[answer.best_index])
    if not mask.any():
        raise UserError("The mask is empty; click elsewhere on the object or draw a box around it.")
    made = {"model": model, "weights": model_fingerprint(loaded)}
    records, info = before or Results([], made | source)
    records.append({"segmentation": mask, "predicted_iou": score})
    prompts = {"points": coords, "point_labels": labels, "box": corners}
    info["prompts"] = [*info.get("prompts", ()), made | prompts]
    written = write_results(
        out, image, pixels, records, info, coords, labels, [corners] if corners else None
    )
    console.print(f"{int(mask.sum())} pixels, predicted IoU {score:.2f}")
    for path in written:
        console.print(str(path))


@app.command()
def everything(
    image: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    out: Out,
    model: Model = "nuclei",
    engine: EngineName = "auto",
    prompts: Annotated[
        str | None,
        typer.Option(help="Where to click: on each region (regions), grid, or hierarchical."),
    ] = None,
    points_per_side: Annotated[
        int | None,
        typer.Option(help="Clicks along each side of a grid; implies it.", min=1, max=256),
    ] = None,
    pred_iou_thresh: Annotated[
        float | None, typer.Option(help="Keep masks with a predicted IoU above this.", min=0, max=1)
    ] = None,
    stability_score_thresh: Annotated[
        float | None, typer.Option(help="Keep masks at least this stable.", min=0, max=1)
    ] = None,
    max_covered: Annotated[
        float | None,
        typer.Option(help="Drop masks that lie under better ones by more; 1: none.", min=0, max=1),
    ] = None,
    min_area: Annotated[
        int, typer.Option(help="Remove holes and specks of fewer pixels.", min=0)
    ] = 0,
    tile: Annotated[
        int | None,
        typer.Option(help="Side of the tiles of a large image; by itself, the model's input size."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels that tiles share; by itself, a quarter of the tile.")
    ] = None,
    channels: Channels = None,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    replace: Annotated[
        bool, typer.Option("--replace", help="Do again what is done, or was added by prompts.")
    ] = False,
) -> None:
    """Segment all objects of an image, or of every image in a folder, with no prompt.

    What the same model and settings did before for the same file is skipped, so a run that was
    stopped goes on. Results with objects from `samlet segment` are kept. Files in OUT, and those
    that samlet wrote elsewhere (by their names), are not taken for images.
    """
    from samlet import images
    from samlet.everything.batch import segment_images
    from samlet.everything.segment import segment_everything
    from samlet.everything.settings import EverythingSettings, complete_settings
    from samlet.modeling.fingerprint import model_fingerprint
    from samlet.utils.progress import progress_bar

    paths = images.find(image, out) if image.is_dir() else [image]
    root = image if image.is_dir() else image.parent
    loaded = samlet.load(model)
    predictor = samlet.Predictor(loaded, engine)
    options = {
        "prompts": prompts,
        "points_per_side": points_per_side,
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "max_covered": max_covered,
        "min_mask_region_area": min_area,
    }
    chosen = {name: value for name, value in options.items() if value is not None}
    settings = complete_settings(loaded, cast(EverythingSettings, chosen))
    info = {
        "model": model,
        "weights": model_fingerprint(loaded),
        "settings": settings | {"tile": tile, "overlap": overlap},
        "channels": channels,
    }
    try:
        with progress_bar() as progress:
            outcome = segment_images(
                paths,
                [out / path.relative_to(root).parent for path in paths],
                lambda path: _read(path, channels, max_pixels),
                partial(segment_everything, predictor, tile=tile, overlap=overlap, **settings),
                info,
                progress,
                replace,
            )
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on where it was.")
        raise typer.Exit(130) from None
    if outcome.skipped:
        console.print(f"{outcome.skipped} of {len(paths)} were done before and left as they are.")
    if outcome.kept:
        console.print(
            "Kept, since they hold objects from `samlet segment` (--replace does them again): "
            f"{', '.join(outcome.kept)}"
        )
    if outcome.failed:
        told = "\n".join(outcome.failed)
        raise UserError(
            told
            if len(paths) == 1
            else f"{len(outcome.failed)} of {len(paths)} images could not be done:\n{told}"
        )
    console.print(f"Results are in {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo_output"),
) -> None:
    """Segment the bundled sample images and compare with their labels."""
    from samlet.cli.demo import run

    run(out)


@app.command()
def models() -> None:
    """List the models: which are here, and which would be downloaded."""
    from samlet.checkpoints.downloads import REMOTE_FILES
    from samlet.checkpoints.loading import BUNDLED, read_card
    from samlet.utils.cache_folder import cache_dir

    table = Table("name", "what it is", "MB", box=None, pad_edge=False)
    table.add_column("where", overflow="fold")
    for name, path in BUNDLED.items():
        summary = read_card(path).get("summary", "")
        table.add_row(name, summary, f"{path.stat().st_size / 1e6:.0f}", "bundled")
    for name, remote in REMOTE_FILES.items():
        size = "" if remote.size is None else f"{remote.size / 1e6:.0f}"
        here = (cache_dir() / remote.filename).exists()
        where = str(cache_dir() / remote.filename) if here else f"download from {remote.url}"
        what = "MobileSAM, 1024 px" if name == "mobile_sam" else "SAM, 1024 px, slow without GPU"
        table.add_row(name, what, size, where)
    console.print(table)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A name or a checkpoint file.")],
    target: Annotated[
        Path, typer.Argument(help="NAME.safetensors (ours), or NAME.pt (the official layout).")
    ],
) -> None:
    """Convert a checkpoint between samlet's format and MobileSAM's or SAM's official layout."""
    samlet.save(samlet.load(source), target)
    console.print(f"Wrote {target}")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A name, or a checkpoint file.")],
    out: Out,
    format: Annotated[str, typer.Option(help="onnx or openvino.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Most of the encoder in 8 bits: a third of its size.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of images like yours, for --int8; else the bundled samples."),
    ] = None,
) -> None:
    """Write a model as ONNX or OpenVINO graphs, for programs without samlet and PyTorch."""
    from samlet.export.exporting import export as run

    for path in run(samlet.load(model), format, out, int8, calibration):
        console.print(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


for command in (
    cli_training.embed,
    cli_training.distill,
    cli_training.finetune,
    cli_training.evaluate,
):
    app.command()(command)


def _numbers(text: str, count: int, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        form, example = ("X,Y", "120,80") if count == 2 else ("X1,Y1,X2,Y2", "120,80,180,140")
        raise UserError(
            f"{option} takes {form} in pixels, for example {option} {example}, not {text!r}."
        )
    return numbers


def _read(path: Path, channels: str | None, max_pixels: int) -> "np.ndarray":
    from samlet import images

    chosen = None
    if channels is not None:
        try:
            chosen = [int(part) for part in channels.split(",")]
        except ValueError as error:
            raise UserError(f"--channels takes numbers such as 0,2, not {channels!r}.") from error
    return images.read(path, channels=chosen, max_pixels=max_pixels)
