"""Pure jnp building blocks: boxes, anchor points, non-maximum suppression."""
