"""Folders of pictures: which files there are, which sequences they make, how each is read."""
