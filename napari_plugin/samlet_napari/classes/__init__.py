"""The widget *Classes*: a list of classes, keys that give them to objects, and a classifier."""
