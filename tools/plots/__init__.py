"""Pictures of the documentation, drawn from recorded results: docs/results/*.csv to docs/images/*.png."""
