"""Write `distances.npz`: what torch_em and micro-sam compute for `tests.references.distances`.

Neither is a dependency of the tests, since they need napari 0.6, PyQt5 and more. In an environment
with PyTorch, scipy and scikit-image:

    pip install --target packages --no-deps torch_em==0.10.9 micro_sam==1.8.0 bioimage-cpp==0.10.0 \
        python-elf==0.9.2 threadpoolctl
    PYTHONPATH=packages:. python -m tests.references.make_distances

What else they import is replaced by a stand-in: nothing of it takes part.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import nn

from tests.references.distances import (
    FILE,
    INPUT_SIZE,
    LAYOUTS,
    ORIGINAL_SIZE,
    SCENES,
    distance_scene,
    label_scene,
    random_embedding,
    random_state,
)

STOOD_IN_FOR = {"bioimageio", "h5py", "kornia", "mrcfile", "natsort", "sklearn", "skan", "zarr"}


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules below `STOOD_IN_FOR`, with any content."""

    def find_spec(
        self, fullname: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in STOOD_IN_FOR:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return MagicMock(__path__=[], __spec__=spec)

    def exec_module(self, module: ModuleType) -> None:
        pass


def main() -> None:
    """Compute and write."""
    sys.meta_path.append(StandIns())
    micro_sam: Any = importlib.import_module("micro_sam.instance_segmentation")

    encoder = nn.Module()
    encoder.img_size, encoder.in_chans, encoder.embed_dim = 128, 3, 256  # type: ignore[assignment]
    written: dict[str, Any] = {}
    for layout, transposed in LAYOUTS.items():
        names = {"decoder.samplers.0.block.weight": torch.zeros(1)} if transposed else None
        unetr = micro_sam.UNETR(
            backbone="sam", encoder=encoder, out_channels=3, use_sam_stats=True,
            final_activation="Sigmoid", use_skip_connection=False, resize_input=True,
            use_conv_transpose=names is not None,
        )  # fmt: skip
        shapes = {name: tuple(value.shape) for name, value in unetr.state_dict().items()}
        state = {name: torch.from_numpy(v) for name, v in random_state(shapes).items()}
        decoder = micro_sam.get_decoder(encoder, state, "cpu")
        with torch.no_grad():
            predicted = decoder(torch.from_numpy(random_embedding()), INPUT_SIZE, ORIGINAL_SIZE)
        written[f"{layout} names"] = np.array(list(shapes))
        written[f"{layout} shapes"] = np.array([" ".join(map(str, s)) for s in shapes.values()])
        written[f"{layout} output"] = predicted[0].numpy()
    for scene, (seed, noise, (center, boundary, foreground, smoothing, min_size)) in SCENES.items():
        maps = distance_scene(seed, noise)
        segmenter = micro_sam.InstanceSegmentationWithDecoder(None, None)
        keys = ("foreground", "center_distances", "boundary_distances")
        segmenter.set_state(dict(zip(keys, maps, strict=True)))
        labels = segmenter.generate(
            center_distance_threshold=center, boundary_distance_threshold=boundary,
            foreground_threshold=foreground, distance_smoothing=smoothing, min_size=min_size,
        )  # fmt: skip
        prompts = micro_sam._derive_point_prompts(*maps, foreground, center, boundary)
        written[f"{scene} labels"] = labels.astype(np.uint16)
        written[f"{scene} points"] = prompts["points"][:, 0].astype(np.int16)
    # As micro_sam.training.default_sam_dataset and train_sam call them.
    transform = importlib.import_module("torch_em.transform.label").PerObjectDistanceTransform(
        distances=True, boundary_distances=True, directed_distances=False, foreground=True,
        instances=False, min_size=25,
    )  # fmt: skip
    loss = importlib.import_module("torch_em.loss").DiceBasedDistanceLoss(mask_distances_in_bg=True)
    targets = transform(label_scene(0))
    written["targets"] = targets.astype(np.float32)
    predicted = distance_scene(0, 0.4, targets.shape[1:])
    written["loss"] = loss(torch.from_numpy(predicted[None]), torch.from_numpy(targets[None]))
    np.savez_compressed(FILE, **written)
    print(f"Wrote {FILE}: {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
