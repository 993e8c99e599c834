"""What each kind of step is made from: one frozen model a kind, typed from the recipe down to the kernel.

A step's identity is the digest of its `Spec` in canonical JSON, of its inputs' ids and of the code that computes it.
How it runs (devices, threads, folders) is in a `Run` model beside it and decides no result.

A field may be typed as a part of a section of the recipe: it is given the section and keeps that part of it.
"""
