"""Image layers as planes of RGB pixels, without Qt."""
