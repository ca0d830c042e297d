"""The drawn data set: scenes, painted, written as an ordinary YOLO folder."""
