"""Where sets stand among the real images, and what an image costs."""
