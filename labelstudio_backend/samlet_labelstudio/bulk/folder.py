"""The images of a folder, pre-annotated without a server; resumed where it stopped."""

import hashlib
import json
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from samlet import images
from samlet.errors import UserError
from samlet.images import IMAGE_SUFFIXES
from samlet.modeling.fingerprint import model_fingerprint
from samlet.utils.files import atomic_path
from samlet_labelstudio.bulk.runner import failure_message, run_all
from samlet_labelstudio.images.image_resolver import open_file
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.label_studio.project import default_labeling_config
from samlet_labelstudio.service import RequestContext, Service
from samlet_labelstudio.settings import PER_PROJECT

log = logging.getLogger(__name__)

PARTIAL = ".part"
"""Suffix of the file with the finished part of a folder, one task per line."""


def preannotate_folder(
    service: Service, folder: Path, out: Path, labels: list[str], prefix: str, workers: int
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
        workers: images at once.

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
    paths = [path.relative_to(folder).as_posix() for path in images.find(folder)]
    context = RequestContext("", config, service.settings)
    predictor, version = service.models.of_project(context.project)
    made_with = {
        "weights": model_fingerprint(predictor.model),
        "precision": predictor.engine.precision,
    }
    origin = _origin_key(version, made_with, predictor.model.card, context, text)
    earlier = _read_partial(partial)
    _warn_of_other_origin(partial, earlier, origin)
    done: dict[str, dict[str, Any]] = {}
    lock = threading.Lock()

    def work(name: str) -> str | None:
        try:
            image = open_file(folder / name, service.settings.max_pixels)
            key = f"{origin}-{image.hash}"
            known = earlier.get((name, key))
            done[name] = known or service.preannotator.preannotate(context, {}, image)
        except UserError as error:
            return str(error)
        except Exception as error:
            return f"{name}: {failure_message(error)}"
        if known is None:
            with lock, partial.open("a", encoding="utf-8") as file:
                # The last line may have been cut off: do not continue it.
                file.write("\n" + json.dumps([name, key, done[name]]) + "\n")
        return None

    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        failed = run_all(paths, work, workers)
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
