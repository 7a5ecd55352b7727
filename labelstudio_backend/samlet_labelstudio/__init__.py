"""A Label Studio ML backend: smart clicks become masks, and projects arrive pre-annotated."""
