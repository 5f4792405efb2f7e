"""What recipes make of mined pairs: which rows a dataset takes, and the forms in which it leaves the house."""
