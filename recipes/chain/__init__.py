"""What the studies and tools of `recipes/` share; `celeba_augment.py` shows how the parts join."""
