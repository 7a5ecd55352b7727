"""Photograph-like scenes: any objects on any ground, lit from one side."""

from collections.abc import Sequence

import cv2
import numpy as np

from recipes.scenes.camera import expose
from recipes.scenes.canvas import Canvas
from recipes.scenes.grounds import draw_ground
from recipes.scenes.noise import Rng, Shape, blur, fractal_noise, log_uniform
from recipes.scenes.objects import choose_kind
from recipes.scenes.packing import cell_mosaic, pack_discs
from recipes.scenes.surfaces import contrasting_colour, mix, random_colour, texture

MIN_RADIUS, MAX_RADIUS = 3.0, 200.0
MAX_COVER = 1.2
"""Objects' areas together, relative to the frame's."""
CLUTTER_SCALE = 4
"""Clutter is far out of focus, so that it is drawn this much smaller."""


def draw_photograph(
    rng: Rng, shape: Shape, sprites: Sequence[np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Objects that lie over each other, in colour or, a third of the time, in grey.

    Args:
        rng: source of chance.
        shape: height and width.
        sprites: rendered pictures, RGBA; None for outlines only.

    Returns:
        The image, uint8, H x W x 3, and the objects, int32, L x H x W.
    """
    canvas = _paved(rng, shape) if rng.random() < 0.08 else Canvas(draw_ground(rng, shape))
    if rng.random() < 0.3:
        _add_clutter(rng, canvas, sprites)
    light = rng.uniform(0, 2 * np.pi)
    contrast = log_uniform(rng, 0.06, 0.7)
    alike = rng.random() < 0.35
    count = 1 if alike else int(rng.integers(2, 16))
    kinds = [choose_kind(rng, sprites, contrast) for _ in range(count)]
    places = _places(rng, shape, _radii(rng, shape, alike))
    shadows = rng.random() < 0.6
    depth_of_field = rng.uniform(0, 2.5) if rng.random() < 0.3 else 0
    for x, y, radius in places:
        ground = canvas.image[int(np.clip(y, 0, shape[0] - 1)), int(np.clip(x, 0, shape[1] - 1))]
        drawn = kinds[rng.integers(len(kinds))](rng, radius, ground, light)
        if shadows:
            length = radius * rng.uniform(0.1, 0.35)
            canvas.shade(
                drawn.mask,
                rng.uniform(0.35, 0.85),
                x - length * np.cos(light),
                y - length * np.sin(light),
                max(0.5, radius * rng.uniform(0.03, 0.15)),
            )
        blurred = rng.random() ** 2 * depth_of_field * min(1, radius / 15)
        canvas.place(
            drawn.mask,
            drawn.surface,
            x,
            y,
            alpha=drawn.alpha,
            defocus=max(0.3, blurred),
            parts=drawn.parts,
        )
    return expose(rng, _lit(rng, canvas.image)), canvas.layers()


def _lit(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Colours as in one light: paler, in one cast, and partly in the shade of something outside."""
    shape = (image.shape[0], image.shape[1])
    if rng.random() < 0.25:
        shade = np.clip(fractal_noise(rng, shape, 500, 30, 0.4) * log_uniform(rng, 1, 15), 0, 1)
        image = image * (1 - np.float32(rng.uniform(0.2, 0.6)) * shade)[:, :, None]
    grey = image @ rng.dirichlet([4, 6, 3]).astype(np.float32)
    if rng.random() < 0.33:
        return grey
    if rng.random() < 0.6:
        image = _resaturated(image, grey, rng.uniform(0.2, 0.9))
    return image * rng.uniform(0.8, 1.05, 3).astype(np.float32)


def _resaturated(image: np.ndarray, grey: np.ndarray, saturation: float) -> np.ndarray:
    """The image (H x W x 3) with colours nearer to its grey (H x W): 0 for grey, 1 for as it is."""
    return grey[:, :, None] + np.float32(saturation) * (image - grey[:, :, None])


def _paved(rng: Rng, shape: Shape) -> Canvas:
    """Objects that fill the frame: stones, tiles, leaves. Others may lie on them."""
    spacing = log_uniform(rng, 40, 160)
    cells, distance = cell_mosaic(rng, shape, spacing, rng.random(), rng.uniform(0, 0.2))
    joint = rng.uniform(0.7, 1 + 0.05 * spacing)
    colour = random_colour(rng)
    other = contrasting_colour(rng, colour, log_uniform(rng, 0.1, 0.6))
    share = rng.random(int(cells.max()) + 1, dtype=np.float32)[cells]
    image = mix(colour, other, 0.8 * share + 0.2 * texture(rng, shape))
    image *= (0.7 + 0.3 * np.clip(distance / (0.3 * spacing), 0, 1))[:, :, None]
    image += np.clip(1.5 - distance / joint, 0, 1)[:, :, None] * (random_colour(rng) - image)
    canvas = Canvas(image.astype(np.float32))
    canvas.objects.add_all(np.where(distance > joint, cells, 0))
    return canvas


def _add_clutter(rng: Rng, canvas: Canvas, sprites: Sequence[np.ndarray] | None) -> None:
    """Things far behind, too blurred to be objects."""
    rows, columns = canvas.image.shape[:2]
    small = (columns // CLUTTER_SCALE, rows // CLUTTER_SCALE)
    behind = Canvas(cv2.resize(canvas.image, small, interpolation=cv2.INTER_AREA))
    for _ in range(int(rng.integers(3, 12))):
        drawn = choose_kind(rng, sprites, 0.4)(
            rng, log_uniform(rng, 6, 40), behind.image[0, 0], rng.uniform(0, 6)
        )
        x, y = rng.uniform(0, 1, 2) * small
        behind.place(drawn.mask, drawn.surface, x, y, alpha=drawn.alpha)
    blurred = blur(behind.image, log_uniform(rng, 1.5, 6))
    cv2.resize(blurred, (columns, rows), dst=canvas.image, interpolation=cv2.INTER_LINEAR)
    # Nothing that was in focus is left.
    canvas.objects.labels[:] = 0


def _radii(rng: Rng, shape: Shape, alike: bool) -> np.ndarray:
    """Of 3 to 60 objects, the largest first or mixed."""
    typical = log_uniform(rng, 10, 150)
    spread = rng.uniform(0.08, 0.3) if alike else rng.uniform(0.2, 0.9)
    count = round(log_uniform(rng, 3, 60))
    if typical < 22:
        # A few small objects in a large frame would be nearly nothing to learn from.
        count = max(count, 30)
    radii = np.clip(typical * np.exp(rng.normal(0, spread, count)), MIN_RADIUS, MAX_RADIUS)
    covered = np.cumsum(np.pi * radii**2) / (shape[0] * shape[1])
    radii = radii[: max(3, int((covered < MAX_COVER).sum()))]
    return -np.sort(-radii) if rng.random() < 0.7 else radii


def _places(rng: Rng, shape: Shape, radii: np.ndarray) -> np.ndarray:
    """N x (x, y, radius): anywhere, apart from each other, or in heaps."""
    arrangement = rng.random()
    if arrangement < 0.35:
        return pack_discs(rng, shape, radii, gap=rng.uniform(-4, 6))
    if arrangement < 0.8:
        centres = rng.uniform(0, 1, (len(radii), 2)) * (shape[1], shape[0])
    else:
        heaps = rng.uniform(0.15, 0.85, (int(rng.integers(1, 4)), 2)) * (shape[1], shape[0])
        spread = rng.uniform(0.08, 0.2) * min(shape)
        centres = heaps[rng.integers(len(heaps), size=len(radii))]
        centres = centres + rng.normal(0, spread, centres.shape)
        centres = np.clip(centres, 0, (shape[1] - 1, shape[0] - 1))
    return np.column_stack([centres, radii])
