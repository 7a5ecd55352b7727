"""One image and prompts in, masks out."""
