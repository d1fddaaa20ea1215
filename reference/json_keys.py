"""Keys of JSON documents: from dataclasses, and written here for documents that the code creates as mappings."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from reference.json_store_keys import STORE_MEANINGS
from reference.markdown import attributes

KINDS = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null", Any: "any"}


@dataclass(frozen=True)
class Key:
    """A key of a document.

    Attributes:
        kind: Type of its value: names of JSON types joined by " or ", or `list of KIND`.
        optional: Whether the document may lack it.
    """

    name: str
    kind: str
    meaning: str
    optional: bool = False


Keys = tuple[Key, ...]


def keys_of(component: type, meanings: Mapping[str, str]) -> Keys:
    """The fields of a dataclass as keys; `meanings` replaces or adds to its docstring."""
    hints, described = typing.get_type_hints(component), attributes(component) | dict(meanings)
    fields = dataclasses.fields(component)
    return tuple(
        Key(field.name, _kind(hints[field.name]), described.get(field.name, "").replace("None", "`null`"))
        for field in fields
    )


def written(place: str) -> Keys:
    """Keys of a document that the code creates as a mapping; `NAME?` is optional."""
    rows = MEANINGS[place].strip().splitlines()
    parts = [[cell.strip() for cell in row.split("|")] for row in rows]
    return tuple(Key(name.rstrip("?"), kind, meaning, name.endswith("?")) for name, kind, meaning in parts)


def _kind(hint: Any) -> str:
    """The JSON type of a field."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return KINDS[type(parts[0])]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_kind, parts)))
    if hint in KINDS:
        return KINDS[hint]
    if origin is tuple:
        return f"list of {_kind(parts[0])}s"
    if isinstance(origin or hint, type) and issubclass(origin or hint, Mapping):
        return "object"
    return "list" if isinstance(origin, type) and issubclass(origin, Sequence) else _plain(hint)


def _plain(hint: Any) -> str:
    """Dataclasses become objects, and paths strings."""
    return "object" if dataclasses.is_dataclass(hint) else "string"


# name (with ? if optional) | type | meaning
MEANINGS = {
    "plan": """
experiment | string | Name of the experiment in the results directory.
trials | integer | Trials of the plan.
cached | integer | Trials that have their outcome.
packs | integer | Packs to train.
compiled_packs | integer | Packs that use the backend `native`.
conditions | integer | Conditions.
seeds | integer | Seeds.
factors | object | Dotted key of each factor to the list of its levels.
tune? | object | Tuned factors (`over`, full dotted keys) and the metric of the choice (`by`).
equal_compute? | list of objects | One object per condition that spends the training compute of another role.
labels | list of strings | Label of each condition.
seed_list | list of integers | The seeds.
claims | list of strings | Name of each claim.
notices | list of strings | What you should know before the run.
estimate | object | Cost of the trials to train.
disk | object | Disk space of the trials to train.
memory? | object | Predicted memory of the run; absent if nothing is to be trained, or if a GPU trains.
trial_list | list of objects | One object per trial.
""",
    "equal compute": """
condition | string | Label of the condition.
role | string | The role whose training MACs it spends.
epochs | integer | Its epochs.
""",
    "disk": """
stored_bytes | integer | What the trials keep (bytes).
peak_bytes | integer | The same with the checkpoints of trials in training (bytes).
free_bytes | integer | Free space of the results directory (bytes).
""",
    "memory": """
peak_bytes | integer | All processes together, at their peak (bytes).
coordinator_bytes | integer | The process of the command (bytes).
worker_bytes | integer | The largest worker, without what processes share (bytes).
shared_bytes | integer | Libraries and images, of which the machine has one copy (bytes).
available_bytes | integer | Memory that processes can still get (bytes).
""",
    "planned trial": """
trial | string | Hash of the trial.
condition | string | Label of its condition.
role | string | `supervised`, or a role of the file, such as `teacher`.
seed | integer | The seed.
cached | boolean | Whether the trial has its outcome.
""",
    "why": """
trial | string | Hash of the trial.
cached | boolean | Whether the trial has its outcome.
nearest | string or null | Hash of the closest stored trial.
fields | list of objects | The options that differ from it.
""",
    "why field": """
key | string | Dotted key of the option.
stored | any | Its value in the stored trial; `null` if it has none.
planned | any | Its value in the planned trial.
""",
    "run": """
fleet? | object | What the run used; only if it used a cluster, or if a worker was lost or refused a pack.
notices? | list of strings | Notes and warnings of the run, each once; only if there are any.
report | string | Path of the report.
""",
    "verify": """
unfinished | integer | Trials of the plan that have no outcome.
verdicts | list of objects | One object per claim, in the order of the file.
""",
    "verdict": """
name | string | The claim in one sentence.
kind | string | `difference`, `trend`, or `success`.
sentence | string | The claim and its result.
finding | string | The result in one sentence.
verdict | string | `supported`, `refuted`, or `undecided`.
metric | string | The metric that is compared.
expect | string | `greater`, `less`, or `equal`.
matters | number | Smallest effect that matters.
effect | number or null | Mean effect over seeds.
low | number or null | Lower end of its 95% interval.
high | number or null | Upper end of its 95% interval.
n | integer | Number of seeds behind the effect.
sd | number or null | Standard deviation of the paired differences; for a success, that of one seed's outcome.
rho | number or null | Correlation of the two levels over seeds.
p | number | One-sided p-value for the claim; for `equal`, that of the two one-sided tests.
p_against | number | One-sided p-value for the opposite.
p_holm | number | The smaller of both after Holm's correction.
decided_at | number | Two-sided level of the decision (%).
signflip_p | number or null | p-value of the distribution-free check.
signflip_floor | number or null | The smallest p-value that this number of seeds can give.
mde | number or null | Smallest effect that the seeds detect with a probability of about 80%.
more_seeds | integer or null | About how many more seeds should decide; `null` if decided, blocked, or above 1,000.
values | list of objects | One object per seed.
diverged | list of objects | One object per level.
success | list of objects or null | One object per level of a success claim; `null` for other claims.
notes | list of strings | What limits the result.
details | list of strings | The statistics behind the verdict in sentences.
mcnemar | object or null | Image-by-image comparison; `null` if there is none.
exploratory | boolean | Whether the claim was added after results existed.
seeds_added_after_results | boolean | Whether seeds were added after a look at the results.
tuned? | list of objects | One object per condition that the claim compares and that has tuned factors.
""",
    "tuned": """
level | string | Factor and level of the claim.
condition | string | Label of the condition, without the tuned factors.
picked | object | Dotted key of each tuned factor to its picked level.
tries | integer | Number of conditions among which it was picked.
""",
    "repetition": """
page | string | Path of the report.
""",
    "repeated metric": """
metric | string | Name of the metric.
page | number or null | Its value on the page.
repeated | number or null | Its value after training again.
difference | number or null | Repeated minus page.
""",
    "diverged": """
level | string | Factor and level.
diverged | integer | Number of seeds that diverged.
n | integer | Number of seeds.
seeds | list of integers | The seeds that diverged.
""",
    "report": """
reports | list of strings | Path of each report that was written.
index | string | Path of the index page.
combined? | string | Path of the page of `--combine`.
figures? | list of strings | Path of each file of `--figures`.
tuned? | list of objects | One object per condition with tuned factors.
""",
    "choice": """
experiment | string | Name of the experiment.
condition | string | Label of the condition, without the tuned factors.
role | string | Its role.
factors | object | Dotted key of each other factor to its level.
by | string | Metric of the choice.
picked | object | Dotted key of each tuned factor to its picked level.
score | number or null | Mean of the metric at the picked levels.
lead | number or null | Its distance from the second best; `null` for a single try.
edges | list of strings | The tuned factors whose picked level is the smallest or the largest that was tried.
complete | boolean | Whether every try has the metric for all seeds.
tried | list of objects | One object per try, in the order of the plan.
""",
    "try": """
levels | object | Dotted key of each tuned factor to its level.
score | number or null | Mean of the metric over the seeds; a diverged trial counts as chance accuracy.
seeds | integer | Number of seeds behind it.
diverged | integer | Number of trials that diverged.
picked | boolean | Whether these levels are compared.
""",
    "trial": """
trial | string | Hash of the trial.
experiment | string or null | The first experiment that contains it.
experiments | list of strings | All experiments that contain it.
condition | string or null | Label of its condition in the first experiment.
role | string or null | Its role there.
status | string | `finished`, `diverged`, `failed`, `running`, `interrupted`, `waiting`, `damaged`, or `outdated`.
seed | integer or null | The seed.
config | object | Dotted key to value of each option.
parameters | integer or null | Number of trained parameters.
metrics | object | Name to value of each metric.
""",
    "show": """
cause | string or null | Why the trial did not finish.
seconds | number or null | Training time.
table_seconds | number or null | Time to compute the teacher's outputs that this trial stored (s).
outcome | object | Further results on the test set; see [Store](store.md#resultjson).
speed | object or null | Latency and throughput of the trained network; see [Store](store.md#resultjson).
curves | object | Name of a metric to its values, one per epoch.
gradients | list of objects | One object per snapshot of the probe `gradients`.
probes | object | Name of each probe to its `title` and its `snapshots`, which have the keys of its log.
command | string or null | The command that trains the trial again.
provenance | object | Where the numbers come from; see [Store](store.md#provenancejson).
""",
    "gradients": """
step | integer | Steps before the snapshot.
epoch | integer | Epochs before the snapshot.
dtype? | string | Number format of the measurement.
layers | list of strings | Names of the layers.
points | list of strings | Names of the points where activations are read.
weight | list of numbers | Norm of dLoss/dW of each layer.
activation | list of numbers | Norm of dLoss/dh at each point.
""",
    "export": """
exporter | string | Name of the exporter.
paths | list of strings | What was written.
bytes? | integer | Size of all files; only of a trial.
differences? | object | Largest difference of logits by kind of input (absolute by batch size, or `relative`); only of a trial.
""",
    "publish": """
paths | list of strings | The page, the tables (not with `--from`), and the charts.
""",
    "new": """
kind | string | Kind of the template.
name | string | Name of the files and functions.
class_name | string | Name of the class.
files | list of strings | Path of each file that was written.
""",
    "doctor": """
problems | integer | Number of checks with a problem.
checks | list of objects | One object per check.
""",
    "download": """
name | string | Name of the dataset.
folder | string | Directory of its files.
""",
    "problems": """
problems | list of objects | One object per problem.
""",
    "problem": """
code | string | Stable name of the kind of problem, such as `unknown-key`.
file | string or null | The experiment file.
line | integer or null | Line in the file; `null` for overrides and for problems outside the file.
key | string or null | Dotted key.
message | string | The problem, and how to fix it.
""",
    "epoch": """
train/loss | number or null | Cross-entropy on the training images (nats).
train/accuracy | number or null | Accuracy on the training images.
val/loss | number or null | Cross-entropy on the validation images (nats).
val/accuracy | number or null | Accuracy on the validation images.
train/objective? | number or null | The training loss if it is not the cross-entropy.
distillation/soft_share? | number or null | Norm of the gradient of the soft terms divided by the sum of both norms.
distillation/cosine? | number or null | Cosine of the soft gradient and that of the term with the labels.
""",
    **STORE_MEANINGS,
}
