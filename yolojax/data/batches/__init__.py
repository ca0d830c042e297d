"""What a step gets: batches as a function of the step, and loaders."""
