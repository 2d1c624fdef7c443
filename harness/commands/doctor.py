"""`harness doctor`: is all there, and sound."""

from typing import Annotated

import typer

from harness.commands.options import STORE, Limit, Sets, StoreRoot, TestbedName, Workers

Backend = Annotated[str, typer.Option(help="A backend that is held to transformers on the testbed's base models.")]


def doctor(
    testbed: TestbedName = "",
    limit: Limit = 300,
    store: StoreRoot = STORE,
    workers: Workers = None,
    backend: Backend = "",
    sets: Sets = None,
) -> None:
    """Check the installation and the store; with --testbed what that has, and of mini what its bases can do.

    With --backend only whether that says what transformers says.
    """
    from harness.commands.diagnosis import agrees, bars, examined, installation
    from harness.contracts.behind import behind

    if backend:
        from harness.comparison.request import request

        words = [f"generation.backend={backend}", *(sets or [])]
        bed, asked, runtime = request("", "llava150k", "", testbed or "mini", 1, "chair", None, limit, words, workers)
        if not agrees(asked, bed, runtime, store):
            raise typer.Exit(3)
        return
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
