"""Requests -> texts, with vLLM: rounds, engines, their processes, and the store of finished texts.

Here belongs how text is made. What is asked for (`experiment`) and how an answer is read (`method`)
never do.
"""
