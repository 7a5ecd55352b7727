"""The bundled checkpoint, `nuclei.safetensors`, and its model card."""
