"""The images of a folder, pre-annotated without a server; resumed where it stopped."""

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from samlet import Predictor, images
from samlet.cluster.run import RayRun, died_message
from samlet.cluster.workers import Died
from samlet.errors import UserError
from samlet.images import IMAGE_SUFFIXES
from samlet.modeling.fingerprint import model_fingerprint
from samlet.utils.files import atomic_path
from samlet.utils.progress import progress_bar
from samlet_labelstudio.bulk.runner import failure_message, run_all
from samlet_labelstudio.images.image_resolver import open_file
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.label_studio.project import default_labeling_config
from samlet_labelstudio.service import RequestContext, Service
from samlet_labelstudio.settings import PER_PROJECT, Settings

log = logging.getLogger(__name__)

Item = tuple[str, Collection[str]]
"""An image's name, and the keys of its earlier predictions."""

PARTIAL = ".part"
"""Suffix of the file with the finished part of a folder, one task per line."""


class Preannotated(NamedTuple):
    """What became of an image.

    Attributes:
        key: what the prediction was made with and of; empty if it failed.
        prediction: None if one with this key was known.
        failure: why there is none, in a sentence; empty if there is one.
    """

    key: str
    prediction: dict[str, Any] | None
    failure: str = ""


@dataclass(frozen=True)
class FolderWork:
    """Pre-annotates images of a folder; is sent to workers on Ray as well.

    Attributes:
        settings: of the service.
        folder: of the images.
        config_text: the labeling config.
        origin: twelve digits of all that predictions depend on, except the image.
    """

    settings: Settings
    folder: Path
    config_text: str
    origin: str

    def open(self, device: str) -> "Callable[[Item, Callable[[], None]], Preannotated]":
        """Load the model; see `samlet.cluster.run.RayRun`."""
        service = Service(self.settings)
        service.models.of_project("")
        preannotate = self.bind(service)
        computing = threading.Lock()

        def work(item: Item, check: Callable[[], None]) -> Preannotated:
            check()
            with computing:
                return preannotate(item)

        return work

    def bind(self, service: Service) -> "Callable[[Item], Preannotated]":
        """What finds the objects of an image with a service."""
        context = RequestContext("", labeling_config.parse(self.config_text), self.settings)
        prepared = service.preannotator.prepare(context, {})

        def preannotate(item: Item) -> Preannotated:
            name, known = item
            try:
                image = open_file(self.folder / name, self.settings.max_pixels)
                key = f"{self.origin}-{image.hash}"
                if key in known:
                    return Preannotated(key, None)
                return Preannotated(key, service.preannotator.preannotate(prepared, image))
            except UserError as error:
                return Preannotated("", None, str(error))
            except Exception as error:
                return Preannotated("", None, f"{name}: {failure_message(error)}")

        return preannotate


def preannotate_folder(
    service: Service,
    folder: Path,
    out: Path,
    labels: list[str],
    prefix: str,
    workers: int,
    run: RayRun | None = None,
) -> tuple[int, list[str]]:
    """Write tasks with predictions for Label Studio to import; no server is needed.

    Args:
        service: does the work.
        folder: of the images.
        out: the JSON file; a labeling config of the same name, with the suffix .xml, is written
            beside it. Until all is done, finished tasks are kept in a file beside it, too: a
            second call resumes from those that were made with this model, in this precision, with
            these labels and settings, and of these files.
        labels: of the labeling config; objects get the first, or the one of the settings.
        prefix: what comes before an image's path in the folder to make the address that Label
            Studio will find it at.
        workers: images at once, in this process.
        run: workers on Ray, in place of this process.

    Returns:
        How many tasks were written, and a sentence for each image that failed.

    Raises:
        UserError: no images, a file that cannot be written, or `out` is taken or is not a JSON
            file's name.
    """
    if out.is_dir() or out.suffix.lower() in (".xml", *IMAGE_SUFFIXES):
        raise UserError(
            f"{out} cannot become the tasks to import: give --out a file's name that ends in .json."
        )
    text = default_labeling_config(labels)
    config = labeling_config.parse(text)
    if config.result_control("image", service.settings.label) is None:
        raise UserError(f"{service.settings.label} is none of the labels {', '.join(labels)}.")
    partial = out.with_name(out.name + PARTIAL)
    paths = [
        path.relative_to(folder).as_posix() for path in images.find(folder, suffixes=IMAGE_SUFFIXES)
    ]
    context = RequestContext("", config, service.settings)
    predictor, version = service.models.of_project(context.project)
    made_with = {
        "weights": model_fingerprint(predictor.model),
        "precision": predictor.engine.precision,
    }
    origin = _origin_key(version, made_with, predictor.model.card, context, text)
    earlier = _read_partial(partial)
    _warn_of_other_origin(partial, earlier, origin)
    known: dict[str, list[str]] = {}
    for name, key in earlier:
        known.setdefault(name, []).append(key)
    items: list[Item] = [(name, known.get(name, ())) for name in paths]
    done: dict[str, dict[str, Any]] = {}
    lock = threading.Lock()
    work = FolderWork(service.settings, folder, text, origin)

    def add(name: str, made: Preannotated) -> str | None:
        if made.failure:
            return made.failure
        done[name] = made.prediction or earlier[name, made.key]
        if made.prediction is not None:
            with lock, partial.open("a", encoding="utf-8") as file:
                # The last line may have been cut off: do not continue it.
                file.write("\n" + json.dumps([name, made.key, made.prediction]) + "\n")
        return None

    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        if run is None:
            preannotate = work.bind(service)
            failed = run_all(items, lambda item: add(item[0], preannotate(item)), workers)
        else:
            failed = _run_on_ray(run, work, predictor, items, add)
    except OSError as error:
        raise UserError(
            f"Cannot write {partial}: {error.strerror}. Choose another --out."
        ) from error
    with atomic_path(out.with_suffix(".xml")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_path(out) as temporary:
        tasks = [
            {
                "data": {"image": prefix + quote(name)},
                "predictions": [done[name]],
                "meta": {"samlet": made_with},
            }
            for name in paths
            if name in done
        ]
        temporary.write_text(json.dumps(tasks), encoding="utf-8")
    partial.unlink(missing_ok=True)
    return len(tasks), failed


def _run_on_ray(
    run: RayRun,
    work: FolderWork,
    predictor: Predictor,
    items: Sequence[Item],
    add: Callable[[str, Preannotated], str | None],
) -> list[str]:
    # Images are files, so that no worker asks Label Studio for them.
    update = {**run.choices(predictor, work.settings.engine), "api_key": None}
    settings = work.settings.model_copy(update=update | {"basic_auth_pass": None})
    sent = replace(work, settings=settings)
    first = work.folder / items[0][0]
    failed = []
    with (
        progress_bar() as progress,
        closing(run.process(sent, items, first, None, progress, "Pre-annotating")) as made,
    ):
        for (name, _), result in made:
            if isinstance(result, Died):
                result = Preannotated("", None, died_message(name, result))
            failed.append(add(name, result))
    return sorted(failure for failure in failed if failure)


def _origin_key(
    version: str,
    made_with: dict[str, str],
    card: dict[str, Any],
    context: RequestContext,
    config: str,
) -> str:
    """Twelve hex digits that change with all that predictions depend on, except the image."""
    settings = [getattr(context.settings, name) for name in PER_PROJECT]
    facts = json.dumps((version, made_with, card, config, settings), sort_keys=True, default=str)
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


def _read_partial(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Finished predictions by the image's name, and by what they were made with and of."""
    done = {}
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            # A line may be cut off, or empty.
            with suppress(ValueError):
                name, key, prediction = json.loads(line)
                done[name, key] = prediction
    return done


def _warn_of_other_origin(
    path: Path, earlier: dict[tuple[str, str], dict[str, Any]], origin: str
) -> None:
    repeated = {name for name, _ in earlier} - {n for n, key in earlier if key.startswith(origin)}
    if repeated:
        log.warning(
            "%s: %d images were done with another model, precision, labels or settings, and are "
            "done again.",
            path,
            len(repeated),
        )
