"""`/v1/responses` and `/v1/conversations`: what is kept of them, and work that goes on without its client."""
