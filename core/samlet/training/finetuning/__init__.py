"""A model learns masks from labelled images, with simulated prompts."""
