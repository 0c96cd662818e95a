"""Requests -> texts, with vLLM: rounds, engines, their processes, and the store of finished texts.

Here belongs how text is made. What to ask for (`experiment`) and how to read an answer (`method`)
never do.
"""
