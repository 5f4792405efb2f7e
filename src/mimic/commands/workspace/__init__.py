"""A workspace of yours, outside the repository: `mimic new` makes it, `mimic upgrade` brings it up
to another version of the package.

The repository's stages depend on versions and presets where they stand, in the source. Elsewhere
there is no source, so `versions.yaml` of the workspace holds the same numbers, and the stages
depend on those. dvc.yaml of a workspace is made of the repository's (pipeline.yaml here is a link
to it).
"""
