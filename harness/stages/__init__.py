"""The bodies of stages, one file per kind: `harness/stages/KIND.py` has the function `KIND(work)`.

What a body's module imports is what decides its stage's result, and is in the stage's key (`harness.closure`). So a
body imports no more than it needs, and no other kind's body.
"""
