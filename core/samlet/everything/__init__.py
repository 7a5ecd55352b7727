"""All objects of an image, without a prompt from a person."""
