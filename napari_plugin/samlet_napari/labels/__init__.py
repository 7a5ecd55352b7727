"""Objects in labels layers and in files, without Qt."""
