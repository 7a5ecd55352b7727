"""Whole projects, or folders, pre-annotated from the command line."""
