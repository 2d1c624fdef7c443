"""The kinds of stages, a file each (`harness.contracts.stage`); what several of them share is in files with an `_`.

What a kind's file imports is what decides its stages' results, and is in their keys (`harness.store.closure`). So it
imports no more than it needs, and no other kind's.
"""
