"""Clips: the stream that a player shows, sampled, its colours brought to 8 bits."""
