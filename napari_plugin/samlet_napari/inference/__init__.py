"""From prompts to masks, without Qt: regions of interest, embeddings, requests to the model."""
