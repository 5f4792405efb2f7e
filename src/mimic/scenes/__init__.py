"""3-D scenes to walk in: engines that render and navigate them, .glb files, a walker."""
