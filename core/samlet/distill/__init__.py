"""Training: labelled crops, simulated prompts, losses, and the loop that every recipe shares."""
