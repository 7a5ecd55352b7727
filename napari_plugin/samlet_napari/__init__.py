"""Samlet in napari: click objects, propagate them through slices, finetune on your corrections."""
