"""The bundled checkpoint, `microscopy.safetensors`, and its model card."""
