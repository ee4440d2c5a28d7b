"""A folder that becomes a Hugging Face Space: the demo page with one generator."""
