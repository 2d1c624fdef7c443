"""Official files in a folder of the user's: `data: PATH`."""

from pathlib import Path

from harness.contracts.testbed_kind import TestbedKind


class Folder(TestbedKind):
    """`sources/NAME/` and `benchmarks/NAME/`, as their makers publish them."""

    synthetic = False

    @property
    def home(self) -> Path:
        """The folder."""
        return Path(self.data)

    def unset(self) -> str:
        """That its path has a variable without a value."""
        if "$" not in self.data:
            return ""
        name = self.data[self.data.index("$") :]
        return f"{name} is not set; set it to the folder that holds models/, sources/ and benchmarks/."
