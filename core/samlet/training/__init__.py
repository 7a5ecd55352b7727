"""Training: the loop, distillation of an encoder, finetuning on labels."""
