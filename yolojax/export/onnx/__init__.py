"""Networks as ONNX files, by a writer of their own."""
