"""SavedModels for TF Serving, and the files beside them."""
