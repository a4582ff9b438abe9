"""Questions to a trained detector: why, how robust, on unheard systems, how far to be believed, and in words."""
