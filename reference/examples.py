"""An example of each section: a complete experiment file that can be planned."""

EXAMPLES = {
    "data": """
data:
  name: cifar-10
  batch_size: 64
  validation_split: 10       # percent of the training images
  augment: [flip, crop]
  limit: 5000                # training images
  drop_last: true
model: {type: CNN}
training: {epochs: 5}
""",
    "model, teacher_model, student_model": """
data: {name: mnist-sample}
model:
  type: MLP
  params: {hidden_layers_num: 10, layers_dim: 64, batch_norm: true}
training: {epochs: 3}
""",
    "training, training_teacher, training_student": """
data: {name: mnist-sample}
model: {type: MLP}
training:
  epochs: 10
  optimizer: SGD
  lr: 0.1
  optimizer_params: {momentum: 0.9, weight_decay: 0.0005}
  scheduler: MultiStepLR
  scheduler_params: {milestones: [5, 8]}
  label_smoothing: 0.1
  gradient_clip: 1.0
""",
    "distillation": """
data: {name: mnist-sample}
teacher_model: {type: MLP, params: {layers_dim: 128}}
student_model: {type: MLP, params: {layers_dim: 16}}
training_teacher: {epochs: 5}
training_student: {epochs: 5}
distillation: {temperature: 3, alpha: 0.7}
experiment:
  factors: {distillation.alpha: [0.5, 0.9]}
""",
    "training.loss, distillation.loss": """
data: {name: mnist-sample}
model: {type: MLP}
training:
  epochs: 3
  loss: {type: CrossEntropy, params: {label_smoothing: 0.1}}
""",
    "roles.NAME": """
data: {name: mnist-sample}
roles:
  teacher:
    model: {type: MLP, params: {layers_dim: 128}}
    training: {epochs: 5}
  student:
    model: {type: MLP, params: {layers_dim: 16}}
    training: {epochs: 5}
    parents: {teacher: teacher}
experiment: {seeds: 3}
""",
    "roles.NAME.parents": """
data: {name: mnist-sample}
roles:
  pretrained:
    model: {type: MLP}
    training: {epochs: 5}
  finetuned:
    model: {type: MLP}
    data: {name: mnist-sample, limit: 500}
    training: {epochs: 2, lr: 0.0001}
    parents: {start: pretrained}
""",
    "experiment": """
data: {name: mnist-sample}
model: {type: MLP}
training: {epochs: 2}
experiment:
  title: Depth and width
  question: Does depth hurt narrow networks more than wide ones?
  depths: [2, 10]
  widths: [16, 64]
  factors: {model.params.batch_norm: [true]}
  seeds: 3
  analyze_gradients: true
  probes: {updates: {at: [init, end]}}
  tags: [lab-1]
""",
    "experiment.factors.KEY": """
data: {name: mnist-sample}
model: {type: MLP, params: {hidden_layers_num: 10}}
training: {epochs: 2}
experiment:
  factors:
    model.params.residual: [false, true]
    model.params.skip_init: {levels: [none, rezero], when: {model.params.residual: true}}
""",
    "experiment.published": """
data: {name: mnist-sample}
model: {type: MLP, params: {layers_dim: 32}}
training: {epochs: 2}
experiment:
  depths: [2, 20]
  seeds: 5
  published:
    - statement: A plain network with 2 hidden layers reaches 92%.
      source: https://example.org/table-3
      value: 0.92
      factor: hidden_layers_num
      levels: [2]
      at: {residual: false}
""",
    "claims": """
data: {name: mnist-sample}
model: {type: MLP}
training: {epochs: 2}
experiment:
  seeds: 8
  factors:
    model.params.residual: [false, true]
    model.params.hidden_layers_num: [5, 10, 20]
claims:
  - name: Shortcuts help at depth 20
    factor: residual
    levels: [true, false]
    at: {hidden_layers_num: 20}
    expect: greater
    matters: 0.02            # 2 percentage points
  - name: Plain networks get worse with depth
    kind: trend
    factor: hidden_layers_num
    levels: [5, 10, 20]
    at: {residual: false}
    expect: less
    matters: 0.01            # per doubling of the depth
  - name: Residual networks with 20 layers learn
    kind: success
    factor: residual
    levels: [true]
    at: {hidden_layers_num: 20}
    threshold: 0.8           # test accuracy
    reference: 0.5           # more than half of the seeds
    expect: greater
""",
    "logging": """
data: {name: mnist-sample}
model: {type: MLP}
training: {epochs: 2}
experiment: {analyze_gradients: true}
logging: {project_name: lab-1, log_gradients: true}
""",
}
