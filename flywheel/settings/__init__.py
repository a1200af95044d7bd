"""All settings with their defaults, and the folder that an installation owns."""
