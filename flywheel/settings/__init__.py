"""Every key that ops can set, with its default, and the folder that an installation owns."""
