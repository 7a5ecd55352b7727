"""Labels as ImageJ's regions of interest (ROIs): for each image a zip of them, or one .roi file."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from samlet.datasets.labelled_images import (
    LabelledImages,
    ObjectClass,
    Region,
    class_named,
    draw_regions,
    find_by_name,
    image_size,
)
from samlet.datasets.layers import pack_layers
from samlet.errors import UserError
from samlet.masks import fill_ellipse, fill_polygon

SUFFIXES = (".zip", ".roi")
MAX_ROI_BYTES = 1 << 28

_POLYGONS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
_NUMBER_AND_CLASS = re.compile(r"\d{4,}-(?P<name>\D.*)")
"""ImageJ itself names ROIs by two numbers of four digits: 0012-0034."""
_WITHOUT_AREA = {
    ROI_TYPE.LINE: "a line",
    ROI_TYPE.FREELINE: "a line",
    ROI_TYPE.POLYLINE: "a line",
    ROI_TYPE.ANGLE: "an angle",
    ROI_TYPE.POINT: "points",
}


def find_imagej_rois(images: Path, paths: Sequence[Path], labels: Path) -> LabelledImages:
    """Find the images of a folder that have ROIs; see `find_labelled_images`.

    Args:
        images: the folder of the images.
        paths: image files below it.
        labels: the folder of the ROIs, which may be that of the images.
    """
    return find_by_name(images, paths, labels, SUFFIXES, read_layers)


def read_layers(
    image: Path,
    source: Path,
    left_out: list[str] | None = None,
    classes: dict[int, ObjectClass] | None = None,
) -> np.ndarray:
    """Make layers of ROIs that have an area; a composite one is one object.

    Their classes are in their names, as `samlet.outputs.write_rois` writes them: 0002-neuron.

    Args:
        image: the image file.
        source: the zip or .roi file.
        left_out: see `samlet.datasets.labelled_images.ReadLayers`.
        classes: see there.

    Returns:
        int32, L x H x W, numbered as `samlet.datasets.layers.pack_layers` does.

    Raises:
        UserError: the image or the file cannot be read, or a ROI has no area or cannot be drawn.
    """
    size = image_size(image)
    regions = [
        Region(where, partial(_draw, where, content, size), _class_of(name))
        for name, where, content in _contents(source)
    ]
    if not regions:
        raise UserError(f"{source} has no ROI of ImageJ: save them there with More > Save.")
    return pack_layers(draw_regions(regions, left_out, classes), size)


def _class_of(name: str) -> ObjectClass | None:
    found = _NUMBER_AND_CLASS.fullmatch(name)
    return None if found is None else class_named(found["name"])


def _contents(source: Path) -> Iterator[tuple[str, str, bytes]]:
    """Each ROI's name, the same to start a sentence with, and its bytes."""
    try:
        if source.suffix.lower() == ".roi":
            yield source.stem, str(source), source.read_bytes()
            return
        with zipfile.ZipFile(source) as file:
            for entry in file.infolist():
                if not entry.filename.lower().endswith(".roi"):
                    continue
                if entry.file_size > MAX_ROI_BYTES:
                    raise UserError(f"{entry.filename} of {source} is too large to be a ROI.")
                name = f"{entry.filename} of {source}"
                yield Path(entry.filename).stem, name, file.read(entry)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{source} cannot be read as ROIs of ImageJ ({error}): save them again."
        ) from error


def _draw(where: str, content: bytes, size: tuple[int, int]) -> np.ndarray:
    try:
        roi = ImagejRoi.frombytes(content)
    # What is damaged makes the library raise exceptions of many types.
    except Exception as error:
        raise UserError(f"{where} is not a ROI of ImageJ, or damaged: save it again.") from error
    if max(roi.position, roi.z_position, roi.t_position) > 1:
        raise UserError(
            f"{where} is on another slice than the first: save the slices as images, and the ROIs "
            "of each by themselves."
        )
    if roi.composite:
        return _draw_composite(where, roi, size)
    if roi.roitype in _POLYGONS:
        points = np.asarray(roi.coordinates(), float)
        if len(points) >= 3:
            return fill_polygon(points, size)
    elif roi.subtype == ROI_SUBTYPE.UNDEFINED and not roi.rounded_rect_arc_size:
        x, y, width, height = _rectangle(roi)
        if roi.roitype == ROI_TYPE.OVAL:
            return fill_ellipse(x + width / 2, y + height / 2, width / 2, height / 2, 0.0, size)
        if roi.roitype == ROI_TYPE.RECT:
            corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
            return fill_polygon(np.array(corners), size)
    kind = _WITHOUT_AREA.get(roi.roitype)
    raise UserError(
        f"{where} is {kind}, which has no area: draw the outline of the object, or remove it."
        if kind
        else f"{where} is a ROI of a kind that is not read ({roi.roitype.name}, "
        f"{roi.subtype.name}): make it a polygon or a traced outline in ImageJ, or remove it."
    )


def _rectangle(roi: ImagejRoi) -> tuple[float, float, float, float]:
    if roi.subpixelrect:
        return roi.xd, roi.yd, roi.widthd, roi.heightd
    return roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top


def _draw_composite(where: str, roi: ImagejRoi, size: tuple[int, int]) -> np.ndarray:
    """Fill the rings of a ROI by the even-odd rule, as ImageJ does."""
    try:
        rings = roi.coordinates(multi=True)
    except (NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{where} is a composite ROI with curves: make it a mask and trace that in ImageJ "
            "(Edit > Selection > Create Mask, Create Selection)."
        ) from error
    mask = np.zeros(size, bool)
    for ring in rings:
        if len(ring) >= 3:
            mask ^= fill_polygon(np.asarray(ring, float), size)
    return mask
