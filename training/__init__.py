"""Training of the models that this project makes itself; no part of the server."""
