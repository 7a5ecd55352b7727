"""What a viewer shows and what users do in it, without Qt."""
