"""3-D scenes to walk in: engines that render and navigate them, a walker, procedural rooms, .glb in and out."""
