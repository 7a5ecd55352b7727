"""Segment one object with an exported model; needs only onnxruntime, numpy and pillow.

    samlet export nuclei --format onnx --out exported
    python onnx_segment.py exported cells.png mask.png 120,80            # a click on it
    python onnx_segment.py exported cells.png mask.png 100,60,140,110    # a box around it

Several clicks, or a box and clicks, select one object together.
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image, ImageOps


def main(folder: str, source: str, target: str, *prompts: str) -> None:
    """Write the mask of the object that the prompts (x,y or x0,y0,x1,y1) select."""
    model = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
    encoder, decoder = (
        InferenceSession(Path(folder) / model[part]["file"], providers=["CPUExecutionProvider"])
        for part in ("encoder", "decoder")
    )

    image = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
    (width, height), frame = (
        [max(1, int(side * longest / max(image.size) + 0.5)) for side in image.size]
        for longest in (model["encoder_size"], model["image_size"])
    )
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    normalised = (resized - np.float32(model["pixel_mean"])) / np.float32(model["pixel_std"])
    padded = np.zeros(model["encoder"]["inputs"]["image"], np.float32)
    padded[0, :, :height, :width] = normalised.transpose(2, 0, 1)
    (embeddings,) = encoder.run(None, {"image": padded})

    parsed = [[float(number) for number in prompt.split(",")] for prompt in prompts]
    coords = np.float32([point for p in parsed for point in (p[:2], p[2:]) if point])
    labels = [label for p in parsed for label in ((2, 3) if len(p) == 4 else (1,))]
    coords *= np.float32([frame[0] / image.width, frame[1] / image.height])
    if 2 not in labels:  # Without a box, SAM expects a padding point with the label -1.
        coords, labels = np.vstack([coords, np.zeros((1, 2), np.float32)]), [*labels, -1]
    feeds = {
        "image_embeddings": embeddings,
        "point_coords": coords[None],
        "point_labels": np.float32([labels]),
        "mask_input": np.zeros(model["decoder"]["inputs"]["mask_input"], np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.float32([image.height, image.width]),
    }
    masks, scores, _ = decoder.run(None, feeds)
    # One click is ambiguous: take the best of the three candidates; otherwise the first mask.
    best = 1 + scores[0, 1:].argmax() if labels == [1, -1] else 0
    Image.fromarray(masks[0, best] > model["mask_threshold"]).save(target)
    print(f"{target}: predicted IoU {scores[0, best]:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 4 else sys.exit(__doc__)
