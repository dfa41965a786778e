"""The retrieval route: two towers in Triton, and a store that is searched with their vectors."""
