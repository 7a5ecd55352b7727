"""The network: image encoders, prompt encoder, mask decoder, and their assembly."""
