"""The widget "Folder": the images of a folder one after another, and their labels beside them."""
