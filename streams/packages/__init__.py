"""Model packages: a folder with model.onnx and manifest.json, checked against each other before a start."""
