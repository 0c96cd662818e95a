"""Rows -> models, with TRL, peft and DeepSpeed; and the pretraining of the embedded models.

Here belongs how a model is trained and resumed. Choosing its training rows never does.
"""
