"""Base models, and the manifests that say which files a model consists of.

Here belongs what finds, checks and describes weights. Using them (generation, training) never
does.
"""
