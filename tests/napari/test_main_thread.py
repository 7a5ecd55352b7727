"""Many calls from other threads: all come, in order, in the GUI thread, and nothing crashes."""

import subprocess
import sys

CODE = """
import os, sys, threading
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from qtpy.QtCore import QCoreApplication, QTimer
app = QCoreApplication([])
from samlet_napari.ui.main_thread import in_main_thread

sys.setswitchinterval(1e-6)
COUNT = 1500
seen = []

@in_main_thread
def note(thread, number):
    assert threading.current_thread() is threading.main_thread()
    seen.append((thread, number))

note("main", 0)
assert seen.pop() == ("main", 0)
threads = [
    threading.Thread(target=lambda name=name: [note(name, n) for n in range(COUNT)])
    for name in "abc"
]
for thread in threads:
    thread.start()
timer = QTimer()
timer.timeout.connect(lambda: app.quit() if len(seen) == 3 * COUNT else None)
timer.start(20)
app.exec()
for name in "abc":
    assert [n for thread, n in seen if thread == name] == list(range(COUNT))
print("all")
"""


def test_calls_come_in_order_and_end_nothing() -> None:
    told = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", CODE],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.stdout == "all\n", told.stderr
