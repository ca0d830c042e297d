"""What was found in a picture, under the names that code for detectors uses."""
