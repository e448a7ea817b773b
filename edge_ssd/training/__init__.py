"""Training: models, matching, loss, augmentation, the loop and the ONNX export. Needs torch (extra `train`)."""
