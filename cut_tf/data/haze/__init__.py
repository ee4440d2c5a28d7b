"""Haze over photographs: scattering, its random recipe, depth maps, the dataset builder."""
