"""Write `efficientvit.npz`: what the publisher's code computes for `tests.references.efficientvit`.

It is on no package index. With a checkout of https://github.com/mit-han-lab/efficientvit, in an
environment with PyTorch, torchvision and segment-anything:

    PYTHONPATH=CHECKOUT:. python -m tests.references.make_efficientvit

What else it imports is replaced by a stand-in: nothing of it takes part.
"""

import importlib
import sys
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from tests.references.distances import random_state
from tests.references.efficientvit import FILE, POINT, SMALL, digest, image, thinned

STOOD_IN_FOR = ("nn.triton_rms_norm", "nn.drop", "efficientvit.dc_ae")
VARIANTS = ("l0", "l1", "l2", "xl0", "xl1")


def main() -> None:
    """Compute and write."""
    for name in STOOD_IN_FOR:
        sys.modules[f"efficientvit.models.{name}"] = MagicMock(__all__=[])
    sam: Any = importlib.import_module("efficientvit.models.efficientvit.sam")
    backbone: Any = importlib.import_module("efficientvit.models.efficientvit.backbone")
    norm: Any = importlib.import_module("efficientvit.models.nn.norm")

    written: dict[str, Any] = {}
    for name in VARIANTS:
        state = getattr(sam, f"efficientvit_sam_{name}")().state_dict()
        written[f"{name} layout"] = digest((key, tuple(v.shape)) for key, v in state.items())
    for name, (widths, depths, neck_depth) in SMALL.items():
        is_xl = name == "xl"
        # As `efficientvit_sam_l0` and `efficientvit_sam_xl0`, apart from widths and depths.
        settings: dict[str, Any] = {}
        if is_xl:
            settings = {
                "block_list": ["res", "fmb", "fmb", "fmb", "att@3", "att@3"],
                "expand_list": [1, 4, 4, 4, 4, 6],
                "fewer_norm_list": [False, False, False, False, True, True],
            }
        stages = [f"stage{number}" for number in range(len(widths))]
        neck = sam.SamNeck(
            stages[:-4:-1], list(widths[:-4:-1]), head_width=256, head_depth=neck_depth,
            expand_ratio=4 if is_xl else 1, middle_op="fmb",
        )  # fmt: skip
        encoder = sam.EfficientViTSamImageEncoder(
            backbone.EfficientViTLargeBackbone(list(widths), list(depths), **settings), neck
        )
        model = sam.build_efficientvit_sam(encoder, 1024 if is_xl else 512).eval()
        norm.set_norm_eps(model, 1e-6)
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        state = {key: torch.from_numpy(value) for key, value in random_state(shapes).items()}
        model.load_state_dict(state)
        predictor = sam.EfficientViTSamPredictor(model)
        predictor.set_image(image())
        _, iou_predictions, low_res_masks = predictor.predict(np.array(POINT), np.array([1]))
        written[f"{name} names"] = np.array(list(shapes))
        written[f"{name} shapes"] = np.array([" ".join(map(str, s)) for s in shapes.values()])
        written[f"{name} embedding"] = thinned(predictor.features.numpy())
        written[f"{name} iou_predictions"] = np.asarray(iou_predictions)
        written[f"{name} low_res_masks"] = np.asarray(low_res_masks)[:, ::4, ::4]
    np.savez_compressed(FILE, **written)
    print(f"Wrote {FILE}: {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
