"""Label Studio's JSON export: its file names, its regions as masks, its brush RLE."""
