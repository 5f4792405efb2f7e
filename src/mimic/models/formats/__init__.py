"""How others write weights of the same models."""
