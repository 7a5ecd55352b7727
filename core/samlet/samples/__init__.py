"""Eight real microscopy images with labels, none of which the bundled model was trained on."""

from pathlib import Path

IMAGES = Path(__file__).parent / "images"
LABELS = Path(__file__).parent / "labels"
NUCLEI = (
    "fluorescence_1",
    "fluorescence_2",
    "fluorescence_3",
    "stained_1",
    "stained_2",
    "brightfield_1",
)
NAMES = (*NUCLEI, "phase_contrast_1", "electron_1")
