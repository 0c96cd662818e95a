"""What the authors published: their figures, and checks of this workflow on their released data.

Here belong facts about the paper. The method (`method`) and tables with published beside
reproduced figures (`report`) never do.
"""
