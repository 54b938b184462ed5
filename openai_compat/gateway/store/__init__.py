"""What the server keeps: objects with an id in one SQLite file, and the bytes of pictures and videos in one folder.

``storage.Storage`` is the way in. Nothing is made on the disk before something is to be kept.
"""
