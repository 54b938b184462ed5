"""API keys that are made, changed and revoked while the server runs: rows of its SQLite file, where only their hashes are.

``ring.Ring`` says what each request's key may do; ``keeper.KeyKeeper`` changes keys, for the command line and for operators'
requests (``desk.Desk``) alike.
"""
