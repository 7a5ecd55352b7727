"""Names of the files and folders in the folder of a training run."""

CONFIG = "config.yaml"
"""The settings of the run."""

MODEL = "model.safetensors"
"""The trained model."""

PARTIAL_MODEL = "model-so-far.safetensors"
"""The model of a run that had to stop, as its state could not be saved."""

SKIPPED = "skipped.json"
"""Images or labels that were left out, with the reasons."""

TRAIN = "train"
"""Folder of what the training loop writes."""

LOG = "log.csv"
"""In `TRAIN`: the losses; see `samlet.training.train_logger`."""
