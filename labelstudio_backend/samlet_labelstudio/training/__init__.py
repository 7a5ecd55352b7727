"""Finetuning on a project's annotations, and the model versions that come of it."""
