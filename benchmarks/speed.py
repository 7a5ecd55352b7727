"""Side by side on this machine: SAM, MobileSAM and FastSAM as published, and samlet's engines.

    pip install ultralytics          # for the FastSAM rows; without it they are left out
    python benchmarks/speed.py --repeats 5

Architectures with random weights at 1024 px, since speed does not depend on them; official
MobileSAM and samlet run the same one. Every row is a process of its own. They take turns, so that
a slow minute of the machine hits all alike; medians are printed as a Markdown table, with the
median of the rounds' ratios to MobileSAM. FastSAM has no clicks: its one pass stands under encode.
How far each encoder is from the machine's matrix-product rate is printed below. Everything mode has
a benchmark of its own, `everything.py`, since random weights find nothing. Run nothing beside it.
"""

import importlib.util
import multiprocessing
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

SIZE = 1024
BATCH = 32
POINT = np.array([[500.0, 400.0]])


class Row:
    """One row of figures; made in its own process.

    Attributes:
        model: whose parameters are counted.
        encoder: the part of it that `encode` runs, for one image of SIZE x SIZE.
    """

    model: nn.Module
    encoder: nn.Module

    def parameters(self) -> int:
        """Of the whole model."""
        return sum(p.numel() for p in self.model.parameters())

    def megabytes(self) -> float:
        """Of the model in a file, as it is computed with: float32."""
        return 4e-6 * self.parameters()

    def gigaflops(self) -> float:
        """Of the encoder: two for each multiplication in its matrix products and convolutions."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.encoder(torch.zeros(1, 3, SIZE, SIZE))
        return counter.get_total_flops() / 1e9

    def encode(self, image: np.ndarray) -> None:
        """Everything that happens once an image."""
        raise NotImplementedError

    def click(self) -> None:
        """From a point to boolean masks at the image's size; nothing, where there are no clicks."""

    def batch(self) -> None:
        """The same for many points at once."""


class Official(Row):
    """segment_anything or mobile_sam."""

    def __init__(self, package: str, name: str) -> None:
        module = __import__(package)
        self.model = module.sam_model_registry[name]().eval()
        self.encoder = self.model.image_encoder
        self.predictor = module.SamPredictor(self.model)

    def encode(self, image: np.ndarray) -> None:
        """Set the image."""
        self.predictor.set_image(image)

    def click(self) -> None:
        """`predict`, three candidates."""
        self.predictor.predict(POINT, np.array([1]))

    def batch(self) -> None:
        """`predict_torch`."""
        points = torch.rand(BATCH, 1, 2) * SIZE
        self.predictor.predict_torch(points, torch.ones(BATCH, 1))


class FastSAM(Row):
    """YOLOv8-seg, all masks at once."""

    def __init__(self, config: str) -> None:
        from ultralytics.nn.tasks import SegmentationModel

        self.model = SegmentationModel(config, nc=1, verbose=False).eval()
        self.encoder = self.model

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> None:
        """The network's pass alone."""
        self.model(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)


class Samlet(Row):
    """MobileSAM's architecture here."""

    def __init__(self, engine: str) -> None:
        import samlet

        self.model = _random_mobile_sam()
        self.encoder = self.model.image_encoder
        self.predictor = samlet.Predictor(self.model, engine)

    def encode(self, image: np.ndarray) -> None:
        """`encode`."""
        self.embedding = self.predictor.encode(image)

    def click(self) -> None:
        """`segment`, three candidates."""
        self.predictor.segment(self.embedding, POINT, [1])

    def batch(self) -> None:
        """`segment_batch`."""
        points = np.random.default_rng(0).uniform(0, SIZE, (BATCH, 1, 2))
        self.predictor.segment_batch(self.embedding, points, np.ones((BATCH, 1)))


class SamletInt8(Samlet):
    """The same with the encoder that `samlet export --format openvino --int8` writes."""

    folder = Path(tempfile.gettempdir()) / "samlet-speed-int8"

    def __init__(self) -> None:
        from int8 import in_openvino

        super().__init__("openvino")
        run = in_openvino(self.folder / "encoder.xml")
        self.predictor.engine.encode = lambda images: torch.from_numpy(run(images.numpy()).copy())

    def megabytes(self) -> float:
        """Of the exported files."""
        return sum(path.stat().st_size for path in self.folder.iterdir()) / 1e6

    @classmethod
    def export(cls) -> None:
        """Write the files that rows of this kind read."""
        from samlet.export.exporting import export

        export(_random_mobile_sam(), "openvino", cls.folder, int8=True)


def _random_mobile_sam() -> Any:
    from samlet.modeling.sam import Sam, SamConfig

    torch.manual_seed(0)
    return Sam(SamConfig()).eval()


ROWS: dict[str, Callable[[], Row]] = {
    "SAM ViT-H": lambda: Official("segment_anything", "vit_h"),
    "SAM ViT-B": lambda: Official("segment_anything", "vit_b"),
    "MobileSAM": lambda: Official("mobile_sam", "vit_t"),
    "FastSAM-x": lambda: FastSAM("yolov8x-seg.yaml"),
    "FastSAM-s": lambda: FastSAM("yolov8s-seg.yaml"),
    "samlet, torch": lambda: Samlet("torch"),
    "samlet, OpenVINO": lambda: Samlet("openvino"),
    "samlet, OpenVINO int8": SamletInt8,
}
REFERENCE = "MobileSAM"
SLOW = ("SAM ViT-H", "SAM ViT-B")
CLICKLESS = ("FastSAM-x", "FastSAM-s")
FACTS = ("peak", "parameters", "megabytes", "gigaflops")


@dataclass
class Measured:
    """What is known of a row.

    Attributes:
        connection: to its process.
        seconds: of each repeat of each step.
        facts: parameters, megabytes, GFLOP of an encoding, peak memory, and seconds until the first
            mask.
    """

    connection: Connection
    seconds: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)

    def ask(self, step: str) -> Any:
        """Let the process do something, and wait for its answer."""
        self.connection.send(step)
        return self.connection.recv()


def main(
    repeats: Annotated[int, typer.Option(help="Of each step of each row.")] = 5,
    rows: Annotated[list[str] | None, typer.Option(help="Of the table; all by default.")] = None,
) -> None:
    """Measure, and print the table."""
    names = [name for name in rows or ROWS if _installed(name)]
    rate = _gemm()
    print(f"{torch.get_num_threads()} threads, matrix product {rate:.0f} GFLOP/s")
    context = multiprocessing.get_context("spawn")
    measured: dict[str, Measured] = {}
    for name in names:
        ours, theirs = context.Pipe()
        if "OpenVINO" in name:
            preparation = context.Process(target=_prepare, args=(name,))
            preparation.start()
            preparation.join()
        begun = time.perf_counter()
        context.Process(target=_serve, args=(name, theirs), daemon=True).start()
        measured[name] = Measured(ours)
        ours.recv()
        measured[name].facts["first mask"] = time.perf_counter() - begun
    for repeat in range(repeats):
        for step in ("encode", "click", "batch"):
            for name, row in measured.items():
                # A ViT takes up to a minute an image, and its clicks are MobileSAM's.
                if name in SLOW and (repeat > 0 or step != "encode"):
                    continue
                if name in CLICKLESS and step != "encode":
                    continue
                row.seconds.setdefault(step, []).append(row.ask(step))
    for row in measured.values():
        for fact in FACTS:
            row.facts[fact] = row.ask(fact)
        row.connection.send("stop")
    _print(measured)
    _print_distances(measured, rate)


def _print(measured: dict[str, Measured]) -> None:
    print(
        "\n| | parameters | file | encode | click | click in a batch | first mask | peak memory |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    reference = measured.get(REFERENCE)
    for name, row in measured.items():
        cells = [f"{row.facts['parameters'] / 1e6:.1f} M", f"{row.facts['megabytes']:.0f} MB"]
        for step, count in (("encode", 1), ("click", 1), ("batch", BATCH)):
            cells.append(_cell(row, reference, step, count))
        cells += [f"{row.facts['first mask']:.1f} s", f"{row.facts['peak']:.1f} GB"]
        print(f"| {name} | {' | '.join(cells)} |")


def _cell(row: Measured, reference: Measured | None, step: str, count: int) -> str:
    seconds = row.seconds.get(step, [])
    if not seconds:
        return "-"
    median = statistics.median(seconds) / count
    told = f"{median:.2f} s" if median >= 0.5 else f"{median * 1e3:.0f} ms"
    if reference is None or row is reference or not reference.seconds.get(step):
        return told
    # Ratios of the same round, so that a machine that slows down does not count.
    pairs = zip(reference.seconds[step], seconds, strict=False)
    ratio = statistics.median(a / b for a, b in pairs)
    return f"{told} ({ratio:.1f}x)" if ratio >= 0.1 else f"{told} (1/{1 / ratio:.0f})"


def _print_distances(measured: dict[str, Measured], rate: float) -> None:
    """How far each encoder is from the time that a plain matrix product of its size would take."""
    print("\n| | GFLOP an image | at the matrix-product rate | encode takes |\n|---|---|---|---|")
    for name, row in measured.items():
        work = row.facts["gigaflops"]
        times = statistics.median(row.seconds["encode"]) * rate / work
        print(f"| {name} | {work:.1f} | {work / rate:.2f} s | {times:.1f} times that |")


def _serve(name: str, connection: Connection) -> None:
    warnings.simplefilter("ignore")
    row = ROWS[name]()
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    row.encode(image)
    row.click()
    connection.send("ready")
    while (step := connection.recv()) != "stop":
        if step == "peak":
            connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
            continue
        if step in FACTS:
            connection.send(getattr(row, step)())
            continue
        begun = time.perf_counter()
        row.encode(image) if step == "encode" else getattr(row, step)()
        connection.send(time.perf_counter() - begun)
        if step == "encode":
            # The first click prepares the image for all others.
            row.click()


def _prepare(name: str) -> None:
    """Convert beforehand: users do that once, not at each start."""
    Samlet("openvino")
    if name.endswith("int8"):
        SamletInt8.export()


def _installed(name: str) -> bool:
    return not name.startswith("FastSAM") or importlib.util.find_spec("ultralytics") is not None


def _gemm() -> float:
    matrix = torch.randn(2048, 2048)
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - begun)
    return 2 * 2048**3 / statistics.median(seconds) / 1e9


if __name__ == "__main__":
    typer.run(main)
