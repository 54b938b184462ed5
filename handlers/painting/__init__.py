"""Pictures and videos by the pipelines of diffusers: which there are, loading them, drawing, filming, and memory."""
