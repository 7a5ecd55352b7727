"""Finetuning on labelled images, with simulated prompts."""
