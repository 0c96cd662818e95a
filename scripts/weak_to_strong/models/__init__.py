"""Base models, the manifests that say which files a model consists of, and its chat template.

Here belongs what finds, checks and describes weights, and what makes token ids of chats. Using
weights (generation, training) never does.
"""
