"""What the models of the retrieval route share, and its store. Python 3.10 syntax."""
