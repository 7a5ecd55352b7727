"""The widget "Finetune": training data from layers, the training process, and its progress."""
