"""Work that clients come back for: kept first, then run against a replica, whether or not anybody still listens."""
