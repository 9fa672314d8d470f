"""From a value to a live block, and back to a view."""
