"""Pictures or batches in, detections out."""
