"""What the backend does, with nothing of HTTP in it: answer prompts, and pre-annotate tasks."""

import json
import logging
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samlet import Predictor
from samlet.errors import UserError
from samlet.everything.segment import segment_everything
from samlet.masks import CroppedMask, area, crop_mask
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.predict.predictor import MaskPrediction
from samlet.predict.roi import choose_roi
from samlet_labelstudio.images.image_resolver import Picture, Pictures
from samlet_labelstudio.label_studio.labeling_config import Control, LabelingConfig
from samlet_labelstudio.regions import to_results
from samlet_labelstudio.regions.prompts import Prompt, image_of, read_box, read_prompt
from samlet_labelstudio.service.batches import Batches
from samlet_labelstudio.service.models import Models
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.trainer import Trainer
from samlet_labelstudio.training.versions import Versions

log = logging.getLogger(__name__)

BOX_BYTES = 64_000_000
"""Of masks as large as the image, one for each box that is answered at once."""
MOST_BOXES = 8
"""Answered at once: the model keeps for each what it sees around it."""
DRAFTS = 256
"""Answers that are kept, since the next click of the same region goes on from them."""


@dataclass(frozen=True)
class Asked:
    """Who asks, and how results must look.

    Attributes:
        project: number of the project, or "".
        config: its labeling config.
        settings: the backend's, with what the project changed.
    """

    project: str
    config: LabelingConfig
    settings: Settings


class Service:
    """One for the whole server; safe to use from any number of threads.

    Args:
        settings: see there.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        _tell_if_unwritable(settings.folder)
        self.models = Models(settings.engine)
        self.versions = Versions(settings.folder / "projects")
        self.trainer = Trainer(settings, self.versions)
        self.pictures = Pictures(settings)
        self.embeddings = EmbeddingCache(
            settings.folder / "embeddings",
            settings.memory_mb * 1_000_000,
            settings.disk_mb * 1_000_000,
        )
        self.batches = Batches()
        self._extra: dict[str, Settings] = {}
        self._drafts: OrderedDict[Any, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Load the model in the background, so that the first click need not wait for it."""

        def load() -> None:
            try:
                self.models.get(self.settings.model)
                log.info("The model %s is ready.", self.settings.model)
            except UserError as error:
                log.error("%s", error)

        threading.Thread(target=load, daemon=True).start()

    def model_version(self, project: str) -> str:
        """Name of the model that a project uses."""
        version = self.versions.chosen(project)
        return self.settings.model if version is None else version.name

    def settings_of(self, project: str) -> Settings:
        """The settings, with what the extra parameters of a project's backend change.

        Raises:
            UserError: a parameter of the wrong kind, or out of its range.
        """
        with self._lock:
            return self._extra.get(project, self.settings)

    def set_extra_params(self, project: str, given: Any) -> None:
        """Take the extra parameters of a project's backend, JSON or an object; see `Settings`.

        Raises:
            UserError: they are no JSON object, or a value is wrong.
        """
        try:
            params = json.loads(given) if isinstance(given, str) and given.strip() else given or {}
        except (ValueError, RecursionError) as error:
            raise UserError(f"The backend's extra parameters are not JSON: {error}.") from error
        if not isinstance(params, Mapping):
            raise UserError(
                'The backend\'s extra parameters are no object: write {"min_area": 50}.'
            )
        changed = self.settings.with_texts(params, "The extra parameter")
        with self._lock:
            self._extra[project] = changed

    def interactive(
        self, asked: Asked, task: Mapping[str, Any], results: list[Any]
    ) -> dict[str, Any]:
        """Answer smart clicks, boxes and strokes.

        Args:
            asked: see there.
            task: with "id" and "data".
            results: Label Studio's `context["result"]`.

        Returns:
            a prediction: {"result": regions, "score": predicted IoU, "model_version": name}. It has
            no region if the mask is empty.

        Raises:
            UserError: anything wrong with the request, or its image.
        """
        image = image_of(results, asked.config)
        predictor, version = self.model(asked.project)
        picture = self._picture(asked, task, image)
        embedding = self.embeddings.get(predictor, picture.hash, picture.read)
        prompt = read_prompt(results, asked.config, embedding.original_size)
        control = self._control(asked, image, prompt.label)
        mask, score = self._answer(predictor, embedding, picture.hash, prompt)
        regions = to_results(
            mask, control, _label(control, prompt.label), score, asked.settings.tolerance
        )
        return {"result": regions, "score": score, "model_version": version}

    def preannotate(
        self, asked: Asked, task: Mapping[str, Any], picture: Picture | None = None
    ) -> dict[str, Any]:
        """Find the objects of a task's first image; or, where it has boxes, the objects in those.

        Args:
            asked: see there.
            task: with "id" and "data"; boxes are rectangles of its "predictions" that others made.
            picture: the image, where it need not be fetched.

        Returns:
            a prediction, see `interactive`; its score is the mean of its regions'.

        Raises:
            UserError: anything wrong with the task, or its image.
        """
        image = next(iter(asked.config.images))
        control = self._control(asked, image, asked.settings.label)
        predictor, version = self.model(asked.project)
        picture = picture or self._picture(asked, task, image)
        boxes = _boxes(task, image, self._own_versions(asked.project))
        if boxes:
            found = self._in_boxes(predictor, picture, boxes)
        else:
            label = _label(control, asked.settings.label)
            found = [(*each, label) for each in self._everything(predictor, picture)]
        kept = [
            each
            for each in found
            if each[1] >= asked.settings.min_score
            and area(each[0].mask) >= max(1, asked.settings.min_area)
        ]
        kept.sort(key=lambda each: -each[1])
        regions = [
            region
            for mask, score, label in kept[: asked.settings.max_regions]
            for region in to_results(
                mask, control, _label(control, label), score, asked.settings.tolerance
            )
        ]
        scores = [region["score"] for region in regions]
        mean = float(np.mean(scores)) if scores else 0.0
        return {"result": regions, "score": mean, "model_version": version}

    def model(self, project: str) -> tuple[Predictor, str]:
        """The model that a project uses, and its name.

        Raises:
            UserError: see `samlet.load`.
        """
        version = self.versions.chosen(project)
        if version is None:
            return self.models.get(self.settings.model), self.settings.model
        return self.models.get(str(version.path)), version.name

    def _own_versions(self, project: str) -> set[str]:
        return {self.settings.model, *(version.name for version in self.versions.all(project))}

    def _picture(self, asked: Asked, task: Mapping[str, Any], image: str) -> Picture:
        key = asked.config.images[image]
        data = task.get("data")
        url = data.get(key) if isinstance(data, Mapping) else None
        if not isinstance(url, str) or not url:
            raise UserError(
                f'The task has no image in its data under "{key}", where the labeling config '
                f"expects it: import the task again with that field."
            )
        return self.pictures.open(url, task.get("id"))

    def _control(self, asked: Asked, image: str, label: str | None) -> Control:
        control = asked.config.answering(image, label)
        if control is None:
            raise UserError(
                f"The labeling config has nothing to draw {label or 'objects'} with: add "
                "BrushLabels, PolygonLabels, RectangleLabels or EllipseLabels with that label for "
                f"the image {image}."
            )
        return control

    def _answer(
        self, predictor: Predictor, embedding: ImageEmbedding, image_hash: str, prompt: Prompt
    ) -> tuple[CroppedMask, float]:
        count = len(prompt.points)
        draft = self._draft(predictor, embedding, image_hash, prompt, count - 1)
        answer = _segmented(predictor, embedding, prompt, count, draft)
        best = answer.low_res_masks[answer.best_index]
        self._keep(_draft_key(predictor, image_hash, prompt, count), best)
        return crop_mask(answer.best), _score(answer)

    def _draft(
        self,
        predictor: Predictor,
        embedding: ImageEmbedding,
        image_hash: str,
        prompt: Prompt,
        count: int,
    ) -> np.ndarray | None:
        """The answer to the first `count` clicks, which the next one corrects; None without any.

        It is what the clicks before have shown, unless that was forgotten.
        """
        if count < 1 and (prompt.box is None or count < 0):
            return None
        key = _draft_key(predictor, image_hash, prompt, count)
        with self._lock:
            draft = self._drafts.get(key)
        if draft is None:
            answer = _segmented(predictor, embedding, prompt, count)
            draft = answer.low_res_masks[answer.best_index]
            self._keep(key, draft)
        return draft

    def _keep(self, key: Any, draft: np.ndarray) -> None:
        with self._lock:
            self._drafts[key] = draft
            self._drafts.move_to_end(key)
            while len(self._drafts) > DRAFTS:
                self._drafts.popitem(last=False)

    def _everything(
        self, predictor: Predictor, picture: Picture
    ) -> list[tuple[CroppedMask, float]]:
        return [
            (crop_mask(record["segmentation"]), min(record["predicted_iou"], 1.0))
            for record in segment_everything(predictor, picture.read())
        ]

    def _in_boxes(
        self, predictor: Predictor, picture: Picture, results: Sequence[Mapping[str, Any]]
    ) -> list[tuple[CroppedMask, float, str | None]]:
        embedding = self.embeddings.get(predictor, picture.hash, picture.read)
        size, side = embedding.original_size, predictor.model.config.image_size
        boxes = [read_box(result, size) for result in results]
        # Those that are looked at in the same part of the image, one after another: it is encoded
        # once.
        boxes.sort(key=lambda box: choose_roi(box[0], np.empty((0, 2)), size, side) or ())
        together = max(1, min(MOST_BOXES, BOX_BYTES // (size[0] * size[1])))
        found = []
        for start in range(0, len(boxes), together):
            some = boxes[start : start + together]
            answers = predictor.segment_batch(
                embedding, boxes=[box for box, _ in some], multimask_output=False
            )
            found += [
                (crop_mask(answer.best), _score(answer), label)
                for answer, (_, label) in zip(answers, some, strict=True)
            ]
        return found


def _tell_if_unwritable(folder: Path) -> None:
    """Clicks are answered without it: say once what cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        log.warning(
            "Cannot write %s (%s): images are encoded again after every start, and projects cannot "
            "be learnt from. Set SAMLET_FOLDER to another folder.",
            folder,
            error.strerror,
        )


def _segmented(
    predictor: Predictor,
    embedding: ImageEmbedding,
    prompt: Prompt,
    count: int,
    draft: np.ndarray | None = None,
) -> MaskPrediction:
    """Answer the box and the first `count` clicks of a prompt."""
    return predictor.segment(
        embedding,
        prompt.points[:count] if count else None,
        prompt.point_labels[:count] if count else None,
        prompt.box,
        draft,
        multimask_output=count == 1 and prompt.box is None,
    )


def _score(answer: MaskPrediction) -> float:
    return min(max(float(answer.iou_predictions[answer.best_index]), 0.0), 1.0)


def _draft_key(predictor: Predictor, image_hash: str, prompt: Prompt, count: int) -> Any:
    points = np.asarray(prompt.points[:count], float).tobytes()
    labels = np.asarray(prompt.point_labels[:count], int).tobytes()
    return predictor.model.name, image_hash, points, labels, prompt.box


def _label(control: Control, label: str | None) -> str:
    return label if label in control.labels else control.labels[0]


def _boxes(task: Mapping[str, Any], image: str, own: set[str]) -> list[Mapping[str, Any]]:
    """Rectangles that others than our own models have predicted for an image of a task."""
    predictions = task.get("predictions")
    return [
        result
        for prediction in (predictions if isinstance(predictions, list) else [])
        if isinstance(prediction, Mapping)
        and str(prediction.get("model_version")) not in own
        and isinstance(prediction.get("result"), list)
        for result in prediction["result"]
        if isinstance(result, Mapping)
        and result.get("type") == "rectanglelabels"
        and result.get("to_name") == image
    ]
