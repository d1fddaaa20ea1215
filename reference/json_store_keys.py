"""Keys of the documents of `fathomlab store`; see `reference.json_keys`."""

STORE_MEANINGS = {
    "check": """
trials | integer | Number of trials.
files | integer | Number of verified files.
left_out | integer | Files that a bundle leaves out.
faults | list of objects | One object per corrupted file.
""",
    "fault": """
path | string | The file.
problem | string | What is wrong.
""",
    "changes": """
done | list of objects | One object per change.
reports | list of strings | Experiments whose reports were written again.
""",
    "change": """
path | string | The file or directory.
did | string | What was done.
bytes? | integer | Size of what was removed.
""",
    "merge": """
runs | string | The results directory that received the trials.
sources | list of strings | Each source: a results directory or ZIP file.
dry_run | boolean | Whether nothing was changed.
reports | list of strings | Path of each report that was written, and of the index.
""",
    "grade": """
rows | list of objects | One object per experiment of each hand-in.
copies | list of objects | Trials that several hand-ins contain from one training, one object per group of hand-ins.
same_seeds | list of objects | Experiments that several hand-ins have with the same seeds. This is no sign of a copy.
file? | string | Path of the file of `--to`.
""",
}
