"""Generated data, in the layouts of the official sets, so that everything runs without a
download."""
