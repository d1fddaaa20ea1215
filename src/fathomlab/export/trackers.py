"""The table of trackers."""

from fathomlab.base.table import Table
from fathomlab.export.tracking import Tracker

TRACKERS: Table[Tracker] = Table("tracker", {})
