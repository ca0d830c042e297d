"""What happens to one sample: numbers first (plan), then pixels (render)."""
