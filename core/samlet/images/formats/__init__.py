"""The formats of image files, each read into planes."""
