"""Networks on features that training alone needs: patch projectors, feature classifier."""
