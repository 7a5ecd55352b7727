"""Distillation: a small image encoder learns to reproduce the embeddings of a large one."""
