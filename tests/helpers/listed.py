"""What is in a folder, to see that nothing in it was touched."""


def listing(root):
    """Returns everything below a folder with size and time of change."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in [root, *root.rglob("*")]
    }
