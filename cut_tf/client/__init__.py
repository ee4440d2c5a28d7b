"""Sends pictures to a model on TF Serving and writes its answers. Needs neither networks nor graphs."""
