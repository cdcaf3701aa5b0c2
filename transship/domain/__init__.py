"""Values and rules of image import. Standard library only, without side effects, logging or waiting."""
