"""Requests -> texts: rounds, vLLM's engines and their processes, endpoints, the store of texts.

Here belongs how text is made. What to ask for (`experiment`) and how to read an answer (`method`)
never do.
"""
