"""What speaks and makes sound: one module a family of models, and what they share."""
