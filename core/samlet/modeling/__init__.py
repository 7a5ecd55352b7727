"""The architecture: image encoder, prompt encoder, mask decoder, and their assembly."""
