"""What a ray sees where it hits: which of two triangles in one place, and its texture."""
