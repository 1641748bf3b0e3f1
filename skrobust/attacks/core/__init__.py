"""What all attacks share: the base classes, balls and boxes, losses, and the search state."""
