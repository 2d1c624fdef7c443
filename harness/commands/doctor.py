"""`harness doctor`: is all there, and sound."""

import typer

from harness.commands.options import STORE, Limit, StoreRoot, TestbedName, Workers


def doctor(
    testbed: TestbedName = "",
    limit: Limit = 300,
    store: StoreRoot = STORE,
    workers: Workers = None,
) -> None:
    """Check the installation and the store; with --testbed what that has, and of mini what its bases can do."""
    from harness.commands.diagnosis import bars, examined, installation
    from harness.contracts.behind import behind

    healthy = installation(store)
    if testbed:
        from harness.comparison.request import request
        from harness.contracts.plugins import names

        bed, asked, runtime = request("", "llava150k", "", testbed, 3, "", None, limit, None, workers)
        if behind(bed.data).bars:
            healthy = bars(asked, bed, runtime, store) and healthy
        else:
            _, asked, _ = request(
                ",".join(names("methods")), "llava150k", "", testbed, 1, "", None, None, None, workers
            )
            healthy = examined(asked, bed) and healthy
    if not healthy:
        raise typer.Exit(3)
