"""Whole projects, or folders, pre-annotated from the command line; goes on where it stopped."""

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.progress import Progress

from samlet import images
from samlet.errors import UserError
from samlet.images import IMAGE_SUFFIXES
from samlet.modeling.fingerprint import model_fingerprint
from samlet.utils.files import atomic_path
from samlet.utils.prefetch import prefetch
from samlet.utils.progress import progress_bar
from samlet_labelstudio.images.image_resolver import open_file
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.label_studio.client import connect, told
from samlet_labelstudio.label_studio.project import labeling_config as config_with
from samlet_labelstudio.service.batches import write_prediction
from samlet_labelstudio.service.service import Asked, Service
from samlet_labelstudio.settings import PER_PROJECT

log = logging.getLogger(__name__)

PART = ".part"
"""Suffix of the file that holds what is done of a folder, a task a line."""


def preannotate_project(service: Service, project: int, workers: int) -> tuple[int, int, list[str]]:
    """Write a prediction for each task of a project that has none of this model.

    Args:
        service: does the work.
        project: its number.
        workers: tasks at once: fetching and writing overlap with segmenting.

    Returns:
        how many tasks were done now, how many before, and a sentence for each that failed.

    Raises:
        UserError: Label Studio does not answer, there is no such project, or its labeling config
            has nothing to draw masks with.
    """
    client = connect(service.settings)
    with told(service.settings):
        config = labeling_config.parse(client.projects.get(project).label_config or "")
        # With the addresses that backends are given, not those that browsers are.
        listed: Any = client.tasks.list(project=project, page_size=100, resolve_uri=False)
        tasks = [task.model_dump() for task in listed]
    asked = Asked(str(project), config, service.settings)
    version = service.model_version(str(project))
    waiting = [task for task in tasks if not _has(task, version)]

    def work(task: Mapping[str, Any]) -> str | None:
        try:
            write_prediction(service, asked, task)
        except Exception as error:
            return f"Task {task['id']}: {_sentence(error)}"
        return None

    failed = _all_of(waiting, work, workers)
    return len(waiting) - len(failed), len(tasks) - len(waiting), failed


def preannotate_folder(
    service: Service, folder: Path, out: Path, labels: list[str], prefix: str, workers: int
) -> tuple[int, list[str]]:
    """Write tasks with predictions for Label Studio to import; no server is needed.

    Args:
        service: does the work.
        folder: of the images.
        out: the JSON file; a labeling config of the same name, with the suffix .xml, comes beside
            it. What is done lies there, too, until all is done; a second call goes on from that,
            as far as it was done with this model, these labels and settings, and of these files.
        labels: of the labeling config; objects get the first, or the one of the settings.
        prefix: what comes before an image's path in the folder to make the address that Label
            Studio will find it at.
        workers: images at once.

    Returns:
        how many tasks were written, and a sentence for each image that failed.

    Raises:
        UserError: no images, a file that cannot be written, or `out` is taken or no name of JSON.
    """
    if out.is_dir() or out.suffix.lower() in (".xml", *IMAGE_SUFFIXES):
        raise UserError(
            f"{out} cannot become the tasks to import: give --out a file's name that ends in .json."
        )
    text = config_with(labels)
    config = labeling_config.parse(text)
    control = config.answering("image", service.settings.label)
    if control is None:
        raise UserError(f"{service.settings.label} is none of the labels {', '.join(labels)}.")
    part = out.with_name(out.name + PART)
    paths = [path.relative_to(folder).as_posix() for path in images.find(folder)]
    asked = Asked("", config, service.settings)
    made = _made_with(service, asked, text)
    earlier = _read_part(part)
    again = {name for name, _ in earlier} - {n for n, key in earlier if key.startswith(made)}
    if again:
        log.warning(
            "%s: %d images were done with another model, labels or settings, and are done again.",
            part,
            len(again),
        )
    done: dict[str, dict[str, Any]] = {}
    lock = threading.Lock()

    def work(name: str) -> str | None:
        try:
            picture = open_file(folder / name, service.settings.max_pixels)
            key = f"{made}-{picture.hash}"
            known = earlier.get((name, key))
            done[name] = known or service.preannotate(asked, {}, picture)
        except UserError as error:
            return str(error)
        except Exception as error:
            return f"{name}: {_sentence(error)}"
        if known is None:
            with lock, part.open("a", encoding="utf-8") as file:
                # A line that was cut off before must not take this one with it.
                file.write("\n" + json.dumps([name, key, done[name]]) + "\n")
        return None

    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        failed = _all_of(paths, work, workers)
    except OSError as error:
        raise UserError(f"Cannot write {part}: {error.strerror}. Choose another --out.") from error
    with atomic_path(out.with_suffix(".xml")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_path(out) as temporary:
        tasks = [
            {"data": {"image": prefix + quote(name)}, "predictions": [done[name]]}
            for name in paths
            if name in done
        ]
        temporary.write_text(json.dumps(tasks), encoding="utf-8")
    part.unlink(missing_ok=True)
    return len(tasks), failed


def _all_of(items: Sequence[Any], work: Callable[[Any], str | None], workers: int) -> list[str]:
    with progress_bar() as progress:
        return [failure for failure in _tracked(progress, items, work, workers) if failure]


def _tracked(
    progress: Progress, items: Sequence[Any], work: Callable[[Any], str | None], workers: int
) -> Iterator[str | None]:
    outcomes = prefetch(items, work, threads=workers, depth=2 * workers)
    yield from progress.track(outcomes, total=len(items), description="Pre-annotating")


def _sentence(error: Exception) -> str:
    """What to say of one that failed, for which the others are not left undone."""
    if isinstance(error, UserError):
        return str(error)
    log.error("Not pre-annotated", exc_info=error)
    return f"samlet failed ({type(error).__name__}); where is said above. Please report it."


def _has(task: Mapping[str, Any], version: str) -> bool:
    predictions = task.get("predictions") or []
    return any(prediction.get("model_version") == version for prediction in predictions)


def _made_with(service: Service, asked: Asked, config: str) -> str:
    """Twelve hex digits that change with all that predictions depend on, but for the image."""
    predictor, version = service.model(asked.project)
    facts = (
        version,
        model_fingerprint(predictor.model),
        predictor.model.card,
        config,
        [getattr(asked.settings, name) for name in PER_PROJECT],
    )
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _read_part(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What was done: predictions by the image's name, and by what they were made with and of."""
    done = {}
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            # A line may be half a one, or empty.
            with suppress(ValueError):
                name, key, found = json.loads(line)
                done[name, key] = found
    return done
