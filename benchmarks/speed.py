"""Side by side on this machine: SAM, MobileSAM and FastSAM as published, and samlet's engines.

    pip install ultralytics          # for the FastSAM rows; without it they are left out
    python benchmarks/speed.py --repeats 5

All models have random weights, since speed does not depend on them, and run at 1024 px; official
MobileSAM and samlet have the same architecture. Rows in bfloat16 are left out where the processor
does not compute in it; all others are in float32. Each row is a separate process. The processes
take turns, so that a slow minute of the machine affects all of them. Prints a Markdown table of
medians, with the median over all rounds of the ratio to MobileSAM. FastSAM has no clicks: its
single pass is the encode column. A second table compares each encoder with the machine's
matrix-product rate in float32. Everything mode has its own benchmark, `everything.py`, since random
weights find no objects. Run nothing beside it.

The encoders alone:

    python benchmarks/speed.py --rows MobileSAM --rows "samlet, OpenVINO" \
        --rows "samlet, OpenVINO bfloat16"
"""

import importlib.util
import multiprocessing
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
from common import median_seconds, peak_megabytes
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from samlet.engines.precision import computes_in_bfloat16

SIZE = 1024
BATCH = 32
POINT = np.array([[500.0, 400.0]])


class Row:
    """One row of the table, in its own process.

    Attributes:
        model: the whole model.
        encoder: the part of it that `encode` runs, for one image of SIZE x SIZE.
    """

    model: nn.Module
    encoder: nn.Module

    def parameters(self) -> int:
        """Number of parameters of the whole model."""
        return sum(p.numel() for p in self.model.parameters())

    def megabytes(self) -> float:
        """Size of the model as a file in float32."""
        return 4e-6 * self.parameters()

    def gigaflops(self) -> float:
        """GFLOP of the encoder: two per multiplication in matrix products and convolutions."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.encoder(torch.zeros(1, 3, SIZE, SIZE))
        return counter.get_total_flops() / 1e9

    def encode(self, image: np.ndarray) -> None:
        """All that is done once per image."""
        raise NotImplementedError

    def click(self) -> None:
        """From a point to boolean masks in the size of the image, if the model has clicks."""

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
        """Only the forward pass of the network."""
        self.model(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)


class Samlet(Row):
    """MobileSAM's architecture in samlet."""

    def __init__(self, engine: str, precision: str = "float32") -> None:
        import samlet

        self.model = _random_mobile_sam()
        self.encoder = self.model.image_encoder
        self.predictor = samlet.Predictor(self.model, engine, precision=precision)

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
        """Size of the exported files."""
        return sum(path.stat().st_size for path in self.folder.iterdir()) / 1e6

    @classmethod
    def export(cls) -> None:
        """Write the files that rows of this class load."""
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
    "samlet, torch bfloat16": lambda: Samlet("torch", "bfloat16"),
    "samlet, OpenVINO": lambda: Samlet("openvino"),
    "samlet, OpenVINO bfloat16": lambda: Samlet("openvino", "bfloat16"),
    "samlet, OpenVINO int8": SamletInt8,
}
REFERENCE = "MobileSAM"
ENCODE_ONCE = ("SAM ViT-H", "SAM ViT-B")
WITHOUT_CLICKS = ("FastSAM-x", "FastSAM-s")
FACTS = ("peak", "parameters", "megabytes", "gigaflops")


@dataclass
class RowProcess:
    """The process of a row, and its figures.

    Attributes:
        connection: to the process.
        seconds: of each repeat of each step.
        facts: parameters, megabytes, GFLOP of one encoding, peak memory in GB, and seconds until
            the first mask.
    """

    connection: Connection
    seconds: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)

    def request(self, step: str) -> Any:
        """Send the name of a step or fact to the process, and wait for its result."""
        self.connection.send(step)
        return self.connection.recv()


def main(
    repeats: Annotated[int, typer.Option(help="Repeats of each step of each row.")] = 5,
    rows: Annotated[list[str] | None, typer.Option(help="Rows of the table; default: all.")] = None,
) -> None:
    """Measure, and print the table."""
    names = [name for name in rows or ROWS if _possible(name)]
    rate = _gemm()
    print(f"{torch.get_num_threads()} threads, matrix product {rate:.0f} GFLOP/s")
    context = multiprocessing.get_context("spawn")
    processes: dict[str, RowProcess] = {}
    for name in names:
        ours, theirs = context.Pipe()
        if "OpenVINO" in name:
            preparation = context.Process(target=_prepare, args=(name,))
            preparation.start()
            preparation.join()
        start = time.perf_counter()
        context.Process(target=_serve, args=(name, theirs), daemon=True).start()
        processes[name] = RowProcess(ours)
        ours.recv()
        processes[name].facts["first mask"] = time.perf_counter() - start
    for repeat in range(repeats):
        for step in ("encode", "click", "batch"):
            for name, row in processes.items():
                # A ViT takes up to a minute per image, and its decoder is the same as MobileSAM's.
                if name in ENCODE_ONCE and (repeat > 0 or step != "encode"):
                    continue
                if name in WITHOUT_CLICKS and step != "encode":
                    continue
                row.seconds.setdefault(step, []).append(row.request(step))
    for row in processes.values():
        for fact in FACTS:
            row.facts[fact] = row.request(fact)
        row.connection.send("stop")
    _print(processes)
    _print_distances(processes, rate)


def _print(processes: dict[str, RowProcess]) -> None:
    print(
        "\n| | parameters | file | encode | click | click in a batch | first mask | peak memory |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    reference = processes.get(REFERENCE)
    for name, row in processes.items():
        cells = [f"{row.facts['parameters'] / 1e6:.1f} M", f"{row.facts['megabytes']:.0f} MB"]
        for step, count in (("encode", 1), ("click", 1), ("batch", BATCH)):
            cells.append(_cell(row, reference, step, count))
        cells += [f"{row.facts['first mask']:.1f} s", f"{row.facts['peak']:.1f} GB"]
        print(f"| {name} | {' | '.join(cells)} |")


def _cell(row: RowProcess, reference: RowProcess | None, step: str, count: int) -> str:
    seconds = row.seconds.get(step, [])
    if not seconds:
        return "-"
    median = statistics.median(seconds) / count
    text = f"{median:.2f} s" if median >= 0.5 else f"{median * 1e3:.0f} ms"
    if reference is None or row is reference or not reference.seconds.get(step):
        return text
    # Ratios within a round, so that a machine that slows down does not matter.
    pairs = zip(reference.seconds[step], seconds, strict=False)
    ratio = statistics.median(a / b for a, b in pairs)
    return f"{text} ({ratio:.1f}x)" if ratio >= 0.1 else f"{text} (1/{1 / ratio:.0f})"


def _print_distances(processes: dict[str, RowProcess], rate: float) -> None:
    """Compare each encoder with the time of a plain matrix product of the same work."""
    print("\n| | GFLOP per image | at the matrix-product rate | encode takes |\n|---|---|---|---|")
    for name, row in processes.items():
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
            connection.send(peak_megabytes() / 1e3)
            continue
        if step in FACTS:
            connection.send(getattr(row, step)())
            continue
        start = time.perf_counter()
        row.encode(image) if step == "encode" else getattr(row, step)()
        connection.send(time.perf_counter() - start)
        if step == "encode":
            # The first click after an encoding prepares the decoder for all others.
            row.click()


def _prepare(name: str) -> None:
    """Convert the model beforehand, as users do once and not at each start."""
    Samlet("openvino")
    if name.endswith("int8"):
        SamletInt8.export()


def _possible(name: str) -> bool:
    """Whether a row can be measured here."""
    if name.startswith("FastSAM"):
        return importlib.util.find_spec("ultralytics") is not None
    return not name.endswith("bfloat16") or computes_in_bfloat16("cpu")


def _gemm() -> float:
    """GFLOP/s of a plain matrix product."""
    matrix = torch.randn(2048, 2048)
    return 2 * 2048**3 / median_seconds(lambda: matrix @ matrix, repeats=10) / 1e9


if __name__ == "__main__":
    typer.run(main)
