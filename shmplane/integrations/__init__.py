"""What connects shmplane with other libraries: a module each, loaded with that library when it is asked for.

Everything here is written against the public names alone, as a user's own code would be.
"""
