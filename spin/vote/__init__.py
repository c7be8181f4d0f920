"""A blind vote: people compare pictures of two models on a page of this machine."""
