"""Kill an annotating process at random moments and check the study after each: `python Testing/kill_annotation.py 200`."""
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent / "lib")]

from test_annotate import kill_often  # noqa: E402


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    begin = time.monotonic()
    actions = [0]

    def report(kill: int, told: list) -> None:
        actions[0] = sum(count for what, _, count in told if what == "journal")
        if (kill + 1) % 10 == 0:
            accepted = sum(what == "accepted" for what, _, _ in told)
            print(f"{kill + 1} kills, {actions[0]} actions in the journal, {accepted} cases accepted now", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        kill_often(Path(folder), kills, report)
    print(f"{kills} kills survived in {time.monotonic() - begin:.0f} s: the study was readable and resumable every time")


if __name__ == "__main__":
    main()
