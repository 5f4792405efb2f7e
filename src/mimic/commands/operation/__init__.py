"""The house at work: what runs here, whether it is whole, and who holds what."""
