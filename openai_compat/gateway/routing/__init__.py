"""Which target gets a request, which one next, and which are left alone for a while."""
