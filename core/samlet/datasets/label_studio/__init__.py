"""Label Studio's JSON export, and its geometry, which the Label Studio backend uses, too."""
