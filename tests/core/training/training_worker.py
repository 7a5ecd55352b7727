"""A short real distillation, to be run, killed and run again by test_training.py.

python -m tests.core.training.training_worker OUT BATCH_SIZE PAUSE
"""

import sys
import time
from pathlib import Path

import torch

from samlet import samples
from samlet.modeling.sam import Sam
from samlet.training import train_logger
from samlet.training.accelerator import open_accelerator
from samlet.training.distillation.batches import DistillBatch, DistillStream, SkippedImages
from samlet.training.distillation.decoupled import EmbeddingDistiller, teacher_embed_fn
from samlet.training.distillation.sources import open_source
from samlet.training.loop import train
from samlet.training.settings import LoopSettings
from tests.core.conftest import SMALL

STEPS = 20


class Slowed(EmbeddingDistiller):
    pause = 0.0

    def forward(self, batch: DistillBatch) -> dict[str, torch.Tensor]:
        time.sleep(self.pause)
        return super().forward(batch)


def main(out: Path, batch_size: int, pause: float) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train_logger.LOG_INTERVAL = 1
    teacher, student = Sam(SMALL).eval(), Sam(SMALL)
    accelerator = open_accelerator("no")
    learner = Slowed(student, teacher_embed_fn(teacher))
    learner.pause = pause
    stream = DistillStream(
        source=open_source(str(samples.IMAGES)),
        image_size=SMALL.image_size,
        batch_size=batch_size // accelerator.num_processes,
        store=None,
        held_out=frozenset(),
        skipped=SkippedImages(None),
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    settings = LoopSettings(steps=STEPS, learning_rate=5e-4, warmup=5, save_minutes=0, ema=0.9)
    averaged = train(learner, stream, settings, out, accelerator)
    if accelerator.is_main_process:
        torch.save(averaged.state_dict(), out / "result.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
