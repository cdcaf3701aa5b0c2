"""Values and rules of image import. Standard library only; nothing here acts, logs or waits."""
