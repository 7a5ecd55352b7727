"""Shared helpers without any knowledge of images or models: files, threads, progress, messages."""
