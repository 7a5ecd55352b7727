"""Names of the files and folders in the folder of a training run."""

MODEL = "model.safetensors"
"""The trained model."""

TRAIN = "train"
"""Folder of what the training loop writes."""

LOG = "log.csv"
"""In `TRAIN`: the losses; see `samlet.training.train_logger`."""
