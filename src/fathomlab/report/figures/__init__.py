"""The figures of a report: functions from typed values to ordinary matplotlib figures, and their form as inline SVG."""
