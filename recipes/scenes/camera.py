"""What a camera and a file format do to a scene; the labels stay as they are."""

import cv2
import numpy as np

from recipes.scenes.noise import Rng, blur, frame_coordinates, log_uniform, ramp, white_noise


def expose(
    rng: Rng,
    image: np.ndarray,
    *,
    max_blur: float = 1.8,
    max_noise: float = 0.06,
    poisson: float = 0,
) -> np.ndarray:
    """Blur, light fall-off, noise, contrast and compression.

    Args:
        rng: source of chance.
        image: float32, H x W (grey) or H x W x 3, about 0 to 1.
        max_blur: largest standard deviation of the blur, pixels.
        max_noise: largest standard deviation of the noise.
        poisson: 0 for noise that is alike everywhere, 1 for noise that grows with brightness.

    Returns:
        uint8, H x W x 3.
    """
    image = blur(image, rng.uniform(0, max_blur) if rng.random() < 0.7 else 0)
    if rng.random() < 0.4:
        image = _times(image, _fall_off(rng, image))
    if rng.random() < 0.12:
        image = _coarse(rng, image)
    noise = _noise(rng, image.shape[:2]) * np.float32(log_uniform(rng, 0.004, max_noise))
    if poisson:
        signal = image if image.ndim == 2 else image.mean(2)
        noise *= (1 - poisson) + poisson * np.sqrt(np.clip(signal, 0.01, 1))
    image = image + (noise if image.ndim == 2 else noise[:, :, None])
    if image.ndim == 3 and rng.random() < 0.3:
        image = image + np.float32(rng.uniform(0, 0.02)) * white_noise(rng, image.shape)
    low, high = np.percentile(image[::8, ::8], [0.5, 99.5])
    if rng.random() < 0.4:
        # Stretched to the full range, as many files are.
        image = (image - low) / max(high - low, 0.25)
    elif high > 1 or rng.random() < 0.6:
        image = image * np.float32(rng.uniform(0.6, 1) / max(high, 0.1))
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.3:
        pixels = _compressed(rng, pixels)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def _coarse(rng: Rng, image: np.ndarray) -> np.ndarray:
    """As enlarged from a smaller picture."""
    rows, columns = image.shape[:2]
    factor = log_uniform(rng, 1.5, 3)
    small = (max(8, int(columns / factor)), max(8, int(rows / factor)))
    kind = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(2)]
    return cv2.resize(
        cv2.resize(image, small, interpolation=cv2.INTER_AREA), (columns, rows), interpolation=kind
    )


def _times(image: np.ndarray, light: np.ndarray) -> np.ndarray:
    return image * (light[:, :, None] if image.ndim == 3 else light)


def _fall_off(rng: Rng, image: np.ndarray) -> np.ndarray:
    shape = (image.shape[0], image.shape[1])
    if rng.random() < 0.5:
        return 1 + rng.uniform(0.05, 0.4) * ramp(rng, shape)
    x, y = frame_coordinates(shape)
    centre = rng.uniform(0.3, 0.7, 2) * shape
    distance = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / np.float32(max(shape) ** 2)
    return 1 - np.float32(rng.uniform(0.1, 0.9)) * distance


def _noise(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    noise = white_noise(rng, (shape[0], shape[1]))
    if rng.random() < 0.35:
        # Detectors and resizing make neighbouring pixels alike.
        sigma = rng.uniform(0.5, 1.2)
        noise = cv2.GaussianBlur(noise, (0, 0), sigma) * np.float32(1 + 2 * sigma)
    return noise


def _compressed(rng: Rng, pixels: np.ndarray) -> np.ndarray:
    quality = int(rng.integers(30, 96))
    written = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(written, cv2.IMREAD_UNCHANGED))
