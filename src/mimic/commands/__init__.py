"""What people call beside the pipeline: one file a command."""
