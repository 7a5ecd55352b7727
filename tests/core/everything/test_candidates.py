"""Non-maximum suppression against torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from samlet.everything.candidates import Candidate, box_nms


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_box_nms(threshold: float) -> None:
    """With equal boxes, equal scores, and boxes one pixel wide."""
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 60, (400, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 30, (400, 2))], axis=1)
    scores = rng.integers(0, 100, 400) / 100
    candidates = [
        Candidate((*map(int, box),), {"number": number}, 0.9, 0.9, [0, 0], (0, 0, 90, 90))  # type: ignore[arg-type]
        for number, box in enumerate(boxes)
    ]
    kept = [one.rle["number"] for one in box_nms(candidates, scores.tolist(), threshold)]
    expected = nms(torch.tensor(boxes).float(), torch.tensor(scores).float(), threshold)
    assert kept == expected.tolist()
    assert box_nms([], [], threshold) == []
