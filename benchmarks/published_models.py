"""The published models side by side: `vit_t_lm` with micro-sam, and each student with MobileSAM.

    pip install --target packages --no-deps torch_em==0.10.9 micro_sam==1.8.0 \\
        bioimage-cpp==0.10.0 python-elf==0.9.2 threadpoolctl
    python -m benchmarks.published_models --micro-sam packages

Models have random weights, since speed does not depend on them, and images have 1024 x 1024 pixels.
Within a round, all that a row compares run one after another; prints Markdown tables of medians,
with the median of the ratios within rounds to the publisher's code, which runs in float32. Columns
in bfloat16 are left out where the processor does not compute in it.

Automatic segmentation begins with the image. As random weights find no objects, the instance
decoder is computed, and then distance maps of about thirty ellipses take the place of its output,
the same for all. The watershed has the same objects on both sides, and prompts the same points.

Without `--micro-sam` the first table is left out. What micro-sam imports for other purposes is
replaced by a stand-in if it is not installed (`tests.references.make_distances`). The whole takes
about four minutes on two cores. Run nothing beside it.
"""

import gc
import importlib
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import mobile_sam
import numpy as np
import torch
import typer
from benchmarks.common import seconds_of
from scipy import ndimage
from tests.references.distances import distance_scene
from tests.references.make_distances import StandIns
from torch import nn

import samlet
from samlet.engines.precision import computes_in_bfloat16
from samlet.everything.segment import segment_everything
from samlet.modeling.efficientvit import EFFICIENTVITS
from samlet.modeling.instance_decoder import InstanceDecoderConfig
from samlet.modeling.repvit import REPVITS
from samlet.modeling.sam import Sam, SamConfig

SIZE = 1024
POINT = (500, 400)
"""(x, y)"""

STUDENTS = {
    "mobile_sam": SamConfig(),
    **{n: SamConfig("repvit", tiny_vit=None, repvit=c) for n, c in REPVITS.items()},
    **{
        n: SamConfig("efficientvit", tiny_vit=None, efficientvit=c)
        for n, c in EFFICIENTVITS.items()
    },
}
UNLESS_ASKED_FOR = ("efficientvit_sam_xl0", "efficientvit_sam_xl1")
"""Are left out by default, as they take most of the time, and 3 GB."""

COLUMNS = {
    "samlet, torch": ("torch", "float32"),
    "samlet, OpenVINO": ("openvino", "float32"),
    "samlet, OpenVINO bfloat16": ("openvino", "bfloat16"),
}

Work = Callable[[], object]


def main(
    micro_sam: Annotated[
        Path | None, typer.Option(help="Folder of the packages micro_sam and torch_em.")
    ] = None,
    students: Annotated[
        list[str] | None,
        typer.Option("--student", help="Students to encode with; all but the XL ones if none."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Repeats of all that is compared.")] = 2,
) -> None:
    """Measure, and print the tables."""
    warnings.simplefilter("ignore")
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, {rounds} rounds")
    if micro_sam is None:
        print("\nWithout --micro-sam there is no table of vit_t_lm.")
    else:
        sys.path.append(str(micro_sam))
        sys.meta_path.append(StandIns())
        _print_header("vit_t_lm", "micro-sam")
        for step, works in vit_t_lm_works(image).items():
            _print_row(step, works, rounds)
    _print_header("encode", "official mobile_sam")
    official = mobile_sam.SamPredictor(randomly(mobile_sam.sam_model_registry["vit_t"]))
    for name in students or [name for name in STUDENTS if name not in UNLESS_ASKED_FOR]:
        model = randomly(lambda name=name: Sam(STUDENTS[name]))
        model.name = name
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        works: dict[str, Work] = {"official": lambda: official.set_image(image)}
        for column, predictor in predictors(model).items():
            works[column] = lambda predictor=predictor: predictor.encode(image)
        _print_row(f"{name}, {millions:.1f} M parameters", works, rounds)
        del model, works, predictor
        gc.collect()


def randomly(build: Callable[[], Any]) -> Any:
    """A model with the random weights that its code begins with."""
    torch.manual_seed(0)
    return build().eval()


def predictors(model: Sam) -> dict[str, samlet.Predictor]:
    """By column; models are converted beforehand, as users do once and not at each start."""
    return {
        column: samlet.Predictor(model, engine, precision=precision)
        for column, (engine, precision) in COLUMNS.items()
        if precision == "float32" or computes_in_bfloat16("cpu")
    }


def vit_t_lm_works(image: np.ndarray) -> dict[str, dict[str, Work]]:
    """What is compared for `vit_t_lm`: by step, the work of each column."""
    model = randomly(lambda: Sam(replace(SamConfig(), instance_decoder=InstanceDecoderConfig())))
    model.name = "vit_t_lm"
    maps = np.stack(
        [ndimage.zoom(one, SIZE // 256, order=1) for one in distance_scene(0, 0, (256, 256))]
    )
    sides: dict[str, Any] = {"official": MicroSam(model, maps)}
    sides |= {column: Samlet(predictor, maps) for column, predictor in predictors(model).items()}
    steps: dict[str, dict[str, Work]] = {}
    for step in ("encode", "click", "automatic, watershed", "automatic, prompts"):
        steps[step] = {}
        for column, side in sides.items():
            name = step.rpartition(" ")[2]
            steps[step][column] = lambda side=side, name=name: getattr(side, name)(image)
    return steps


class MicroSam:
    """micro-sam's own code.

    Args:
        model: whose weights it gets.
        maps: 3 x SIZE x SIZE, take the place of the decoder's output.
    """

    def __init__(self, model: Sam, maps: np.ndarray) -> None:
        self.util: Any = importlib.import_module("micro_sam.util")
        self.instances: Any = importlib.import_module("micro_sam.instance_segmentation")
        self.prompted: Any = importlib.import_module("micro_sam.prompt_based_segmentation")
        sam = mobile_sam.sam_model_registry["vit_t"]().eval()
        state = model.state_dict()
        sam.load_state_dict({k: v for k, v in state.items() if not k.startswith("instance_dec")})
        self.predictor = mobile_sam.SamPredictor(sam)
        self.predictor.model_type, self.predictor._hash = "vit_t_lm", ""
        assert model.instance_decoder is not None
        decoder = self.instances.get_decoder(
            sam.image_encoder, model.instance_decoder.state_dict(), "cpu"
        )
        self.decoder = _Replaced(decoder, torch.from_numpy(maps)[None])

    def encode(self, image: np.ndarray) -> None:
        """`precompute_image_embeddings`."""
        self.embeddings = self.util.precompute_image_embeddings(
            self.predictor, image, ndim=2, verbose=False
        )

    def click(self, image: np.ndarray) -> None:
        """`segment_from_points`."""
        self.prompted.segment_from_points(
            self.predictor, np.array([POINT[::-1]]), np.array([1]), self.embeddings
        )

    def watershed(self, image: np.ndarray) -> int:
        """`InstanceSegmentationWithDecoder`, micro-sam's AIS; returns how many objects it finds."""
        segmenter = self.instances.InstanceSegmentationWithDecoder(self.predictor, self.decoder)
        segmenter.initialize(image)
        return int(segmenter.generate().max())

    def prompts(self, image: np.ndarray) -> int:
        """`AutomaticPromptGenerator`, micro-sam's APG; returns how many objects it finds."""
        segmenter = self.instances.AutomaticPromptGenerator(self.predictor, self.decoder)
        segmenter.initialize(image)
        return len(np.unique(segmenter.generate())) - 1


class _Replaced(nn.Module):
    """Computes a module, and returns something else."""

    def __init__(self, module: nn.Module, output: torch.Tensor) -> None:
        super().__init__()
        self.module, self.output = module, output

    def forward(self, *inputs: Any) -> torch.Tensor:
        """Whatever the module takes."""
        self.module(*inputs)
        return self.output


class Samlet:
    """samlet.

    Args:
        predictor: of a model with an instance decoder.
        maps: 3 x SIZE x SIZE, take the place of the decoder's output.
    """

    def __init__(self, predictor: samlet.Predictor, maps: np.ndarray) -> None:
        self.predictor = predictor
        engine, output = predictor.engine, torch.from_numpy(maps)[None]
        predict = engine.predict_distances

        def replaced(features: torch.Tensor) -> torch.Tensor:
            predict(features)
            return output

        engine.predict_distances = replaced  # type: ignore[method-assign]

    def encode(self, image: np.ndarray) -> None:
        """`Predictor.encode`."""
        self.embedding = self.predictor.encode(image)

    def click(self, image: np.ndarray) -> None:
        """`Predictor.segment`."""
        self.predictor.segment(self.embedding, [POINT], [1])

    def watershed(self, image: np.ndarray) -> int:
        """`segment_everything` by the watershed; returns how many objects it finds."""
        return len(segment_everything(self.predictor, image, prompts="watershed"))

    def prompts(self, image: np.ndarray) -> int:
        """`segment_everything` by prompts; returns how many objects it finds."""
        return len(segment_everything(self.predictor, image, prompts="distances"))


def _print_header(title: str, official: str) -> None:
    columns = [
        name
        for name, (_, precision) in COLUMNS.items()
        if precision == "float32" or computes_in_bfloat16("cpu")
    ]
    print(f"\n| {title} | {official} | {' | '.join(columns)} |")
    print("|---" * (2 + len(columns)) + "|")


def _print_row(name: str, works: dict[str, Work], rounds: int) -> None:
    seconds: dict[str, list[float]] = {column: [] for column in works}
    found = {column: work() for column, work in works.items()}
    for _ in range(rounds):
        for column, work in works.items():
            seconds[column].append(seconds_of(work))
    cells = [_cell(seconds[column], seconds["official"], found[column]) for column in works]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _cell(seconds: Sequence[float], official: Sequence[float], objects: object) -> str:
    text = f"{statistics.median(seconds):.2f} s"
    if seconds is not official:
        ratio = statistics.median(a / b for a, b in zip(official, seconds, strict=True))
        text += f" ({ratio:.1f}x)"
    return text if objects is None or not isinstance(objects, int) else f"{text}, {objects} objects"


if __name__ == "__main__":
    typer.run(main)
