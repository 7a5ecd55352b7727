"""Writing masks as GeoJSON polygons."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samlet.masks import to_polygons
from samlet.outputs.records import DEFAULT_CATEGORY, record_mask, record_scores, write_json


def write_polygons(
    path: str | Path,
    records: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    tolerance: float = 1.0,
) -> None:
    """Write masks as a GeoJSON FeatureCollection in pixels, y down; QuPath opens it as annotations.

    A mask of one connected part becomes a Polygon, of several a MultiPolygon; holes are inner
    rings. Empty masks are left out. The record's scores are the feature's "measurements", and its
    "category" is its "classification", as in QuPath.

    Args:
        path: the GeoJSON file.
        records: see `samlet.outputs`.
        size: (height, width) in pixels.
        tolerance: see `samlet.masks.to_polygons`.

    Raises:
        UserError: a mask is not of this size, or the file cannot be written.
    """
    features = []
    for number, record in enumerate(records, start=1):
        cropped = record_mask(record, size)
        polygons = [
            [np.vstack([ring, ring[:1]]).tolist() for ring in polygon]
            for polygon in to_polygons(cropped.mask, tolerance, (cropped.x, cropped.y))
        ]
        if not polygons:
            continue
        geometry = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if len(polygons) == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        properties: dict[str, Any] = {"objectType": "annotation", "name": str(number)}
        if record.get("category", DEFAULT_CATEGORY) != DEFAULT_CATEGORY:
            properties["classification"] = {"name": record["category"]}
        features.append(
            {
                "type": "Feature",
                "geometry": geometry,
                "properties": {**properties, "measurements": record_scores(record)},
            }
        )
    write_json(path, {"type": "FeatureCollection", "features": features})
