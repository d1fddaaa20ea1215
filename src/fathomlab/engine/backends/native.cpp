// Training steps of a pack of MLPs on a CPU (forward pass, loss, backward pass, and update), and predictions.
//
// Replicas are computed one after the other, so that the activations of one stay in the L2 cache and its numbers do not depend
// on the others. Features are batch-major, (n, width). Rows of activations are padded with zeros to whole vectors, and start
// `stride_of(width)` numbers apart; parameters have the layout of PyTorch, (out, in) without padding.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include "vectors.h"

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int HIGH = 12;  // rows of a block of two vectors, whose sums stay in registers
#else
constexpr int HIGH = 6;
#endif

typedef MaskOf<real>::type lane;
constexpr int64_t LONGEST = 256;  // rows of a strip that stay in the L1 cache

INLINE V load(const real* p) { return *(const V*)p; }
INLINE void store(real* p, V v) { *(V*)p = v; }
INLINE V load(const real* p, int64_t count) {
  if (count == VL) return load(p);
  V v{};
  memcpy(&v, p, count * sizeof(real));
  return v;
}
INLINE void store(real* p, V v, int64_t count) {
  if (count == VL) store(p, v);
  else memcpy(p, &v, count * sizeof(real));
}
INLINE V all(real x) { return x - V{}; }  // `V{} + x` would need an addition, because of -0
// x where z is positive or NaN, else 0: a loss that is not finite stays so.
INLINE V where_positive(V z, V x) { return (V)((M)x & ~(M)(z <= 0)); }
INLINE V chosen(M condition, V x, V otherwise) { return (V)(((M)x & condition) | ((M)otherwise & ~condition)); }
INLINE V root(V x) { UNROLL for (int64_t l = 0; l < VL; l++) x[l] = std::sqrt(x[l]); return x; }
// exp(x) for x <= 0 or NaN. In float, a polynomial of degree 6 on [-ln 2 / 2, ln 2 / 2]; its error is about 1 ulp.
INLINE V exponential(V x) {
  if constexpr (sizeof(real) == 4) {
    x = chosen(x < -87, all(-87), x);
    V shifted = x * (real)1.44269504 + (real)12582912;  // rounds to an integer, which is in the last bits
    V n = shifted - (real)12582912, r = x - n * (real)0.693359375 + n * (real)2.12194440e-4;
    V y = all((real)1.9875691500e-4);
    for (double c : {1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1.0, 1.0}) y = y * r + (real)c;
    return y * (V)(((M)shifted - 0x4B400000 + 127) << 23);
  } else {
    UNROLL for (int64_t l = 0; l < VL; l++) x[l] = std::exp(x[l]);
    return x;
  }
}
INLINE int64_t padded(int64_t n) { return (n + VL - 1) / VL * VL; }
// Between rows. Multiples of 256 bytes would leave a column of vectors few sets of the L1 cache, from which its rows evict each other.
INLINE int64_t stride_of(int64_t width) {
  int64_t n = padded(width);
  return n * sizeof(real) % 256 ? n : n + 64 / (int64_t)sizeof(real);
}

// ---- Updates of parameters ----

enum Optimizer : int64_t { ADAM, SGD };

struct Rates {  // of one replica at one step
  real lr, decay, shrink;              // L2 decay is added to the gradient; decoupled decay multiplies the parameter by `shrink`
  real beta1, beta2, unbias, eps;      // Adam; lr contains the correction of the first moment, unbias that of the second
  real momentum, undamped, nesterov;   // SGD
};

template <Optimizer KIND>
INLINE V updated(V w, V g, V& first, V& second, const Rates& r) {
  g += r.decay * w;
  if constexpr (KIND == ADAM) {
    first += (1 - r.beta1) * (g - first);
    second = r.beta2 * second + (1 - r.beta2) * g * g;
    return r.shrink * w - r.lr * first / (root(second) * r.unbias + r.eps);
  } else {
    first = r.momentum * first + r.undamped * g;
    return w - r.lr * (r.nesterov != 0 ? g + r.momentum * first : first);
  }
}

struct Slot { real *first, *second; };  // state of the optimizer; `second` is used by Adam only, both may be null for SGD

template <Optimizer KIND>
INLINE void update(real* w, Slot s, V g, const Rates& r, int64_t count) {
  V first{}, second{};
  if (s.first) first = load(s.first, count);
  if (KIND == ADAM) second = load(s.second, count);
  V w1 = updated<KIND>(load(w, count), g, first, second, r);
  store(w, w1, count);
  if (s.first) store(s.first, first, count);
  if (KIND == ADAM) store(s.second, second, count);
}

template <Optimizer KIND>
static void update_all(real* w, Slot s, const real* g, const Rates& r, int64_t count) {
  for (int64_t i = 0; i < count; i += VL) {
    int64_t n = std::min(VL, count - i);
    Slot at{s.first ? s.first + i : nullptr, s.second ? s.second + i : nullptr};
    if (n == VL) update<KIND>(w + i, at, load(g + i), r, VL);
    else update<KIND>(w + i, at, load(g + i, n), r, n);
  }
}

// ---- Products ----

struct Matrix { const real* at; int64_t row, column; };  // strides

// What happens to a block of a product: it replaces the target, is added to it, or is its gradient.
struct Set {
  inline __attribute__((always_inline)) V start(const real*) const { return V{}; }
  inline __attribute__((always_inline)) void end(real* c, V v, int64_t) const { store(c, v); }
};
struct Add {
  inline __attribute__((always_inline)) V start(const real* c) const { return load(c); }
  inline __attribute__((always_inline)) void end(real* c, V v, int64_t) const { store(c, v); }
};
template <Optimizer KIND> struct Update {
  const real* base; Slot slot; const Rates* rates;
  inline __attribute__((always_inline)) V start(const real* c) const {  // what `end` reads comes to the L2 cache meanwhile
    int64_t i = c - base;
    __builtin_prefetch(c, 0, 2);
    if (slot.first) __builtin_prefetch(slot.first + i, 0, 2);
    if (KIND == ADAM) __builtin_prefetch(slot.second + i, 0, 2);
    return V{};
  }
  inline __attribute__((always_inline)) void end(real* c, V v, int64_t count) const {
    int64_t i = c - base;
    Slot at{slot.first ? slot.first + i : nullptr, slot.second ? slot.second + i : nullptr};
    update<KIND>(c, at, v, *rates, count);
  }
};

// A block of ROWS rows and COLUMNS vectors of C = A B. The last vector may be partial if TAIL.
template <int ROWS, int COLUMNS, bool TAIL, class End>
static void block(int64_t depth, Matrix a, const real* b, int64_t ldb, real* c, int64_t ldc, int64_t tail, const End& end) {
  V sum[ROWS][COLUMNS];
  UNROLL for (int i = 0; i < ROWS; i++)
    UNROLL for (int j = 0; j < COLUMNS; j++) sum[i][j] = end.start(c + i * ldc + j * VL);
  for (int64_t k = 0; k < depth; k++) {
    V row[COLUMNS];
    UNROLL for (int j = 0; j < COLUMNS; j++) row[j] = load(b + k * ldb + j * VL);
    UNROLL for (int i = 0; i < ROWS; i++) {
      V x = all(a.at[i * a.row + k * a.column]);
      UNROLL for (int j = 0; j < COLUMNS; j++) sum[i][j] += x * row[j];
    }
  }
  UNROLL for (int i = 0; i < ROWS; i++)
    UNROLL for (int j = 0; j < COLUMNS; j++)
      end.end(c + i * ldc + j * VL, sum[i][j], TAIL && j == COLUMNS - 1 ? tail : VL);
}

template <int ROWS, int COLUMNS, bool TAIL, class End>
static void strip(int64_t rows, int64_t depth, Matrix a, const real* b, int64_t ldb, real* c, int64_t ldc, int64_t tail, const End& end) {
  constexpr int FEW = ROWS / 3;
  int64_t i = 0;
  for (; i + ROWS <= rows; i += ROWS)
    block<ROWS, COLUMNS, TAIL>(depth, {a.at + i * a.row, a.row, a.column}, b, ldb, c + i * ldc, ldc, tail, end);
  for (; i + FEW <= rows; i += FEW)
    block<FEW, COLUMNS, TAIL>(depth, {a.at + i * a.row, a.row, a.column}, b, ldb, c + i * ldc, ldc, tail, end);
  for (; i < rows; i++)
    block<1, COLUMNS, TAIL>(depth, {a.at + i * a.row, a.row, a.column}, b, ldb, c + i * ldc, ldc, tail, end);
}

// C (rows, columns) from A (rows, depth) and B (depth, columns). Rows of B are readable up to whole vectors.
template <class End>
static void product(int64_t rows, int64_t columns, int64_t depth, Matrix a, const real* b, int64_t ldb, real* c, int64_t ldc, const End& end) {
  int64_t j = 0;
  for (; j + 2 * VL <= columns; j += 2 * VL) strip<HIGH, 2, false>(rows, depth, a, b + j, ldb, c + j, ldc, 0, end);
  if (j + VL <= columns) {
    strip<8, 1, false>(rows, depth, a, b + j, ldb, c + j, ldc, 0, end);
    j += VL;
  }
  if (j < columns) strip<8, 1, true>(rows, depth, a, b + j, ldb, c + j, ldc, columns - j, end);
}

// As `product` with Set, for a long depth in pieces, so that a strip of B stays in the L1 cache. Columns are whole vectors.
static void long_product(int64_t rows, int64_t columns, int64_t depth, Matrix a, const real* b, int64_t ldb, real* c, int64_t ldc) {
  for (int64_t k = 0; k < depth; k += LONGEST) {
    int64_t piece = std::min(LONGEST, depth - k);
    Matrix part{a.at + k * a.column, a.row, a.column};
    if (k) product(rows, columns, piece, part, b + k * ldb, ldb, c, ldc, Add{});
    else product(rows, columns, piece, part, b, ldb, c, ldc, Set{});
  }
}

// Lane `l` of the first or second half of an exchange between rows that are STEP apart; lanes from VL on are of the second row.
constexpr int exchanged(int l, int step, bool second) {
  if (second) return l & step ? VL + l : l + step;
  return l & step ? VL + l - step : l;
}

template <int STEP, bool SECOND, int... L>
INLINE V exchange(V a, V b, std::integer_sequence<int, L...>) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, exchanged(L, STEP, SECOND)...);
#else
  return __builtin_shuffle(a, b, M{exchanged(L, STEP, SECOND)...});
#endif
}

template <int STEP> INLINE void transpose_tile(V* row) {
  typedef std::make_integer_sequence<int, VL> Lanes;
  UNROLL for (int i = 0; i < VL; i++)
    if (!(i & STEP)) {
      V a = row[i], b = row[i + STEP];
      row[i] = exchange<STEP, false>(a, b, Lanes()), row[i + STEP] = exchange<STEP, true>(a, b, Lanes());
    }
  if constexpr (STEP > 1) transpose_tile<STEP / 2>(row);
}

// (rows, columns) to (columns, rows), whose rows are padded with zeros.
static void transpose(const real* a, int64_t rows, int64_t columns, int64_t lda, real* t) {
  int64_t ldt = stride_of(rows);
  for (int64_t i = 0; i < rows; i += VL)
    for (int64_t j = 0; j < columns; j += VL) {
      V row[VL];
      int64_t count = std::min(VL, columns - j), high = std::min(VL, rows - i);
      if (count == VL && high == VL) UNROLL for (int q = 0; q < VL; q++) row[q] = load(a + (i + q) * lda + j);
      else for (int q = 0; q < VL; q++) row[q] = q < high ? load(a + (i + q) * lda + j, count) : V{};
      transpose_tile<VL / 2>(row);
      if (count == VL) UNROLL for (int q = 0; q < VL; q++) store(t + (j + q) * ldt + i, row[q]);
      else for (int q = 0; q < count; q++) store(t + (j + q) * ldt + i, row[q]);
    }
}

// ---- Layers ----

struct Layer {  // tensors of all replicas; null without batch norm
  int64_t in, out, norm, active;
  int64_t pre;            // a ReLU precedes the product (pre-activation) instead of following it; without batch norm
  int64_t again;          // it applies the parameters of the layer before a second time; `skip` adds the input of that one
  double factor;          // of the output before the input is added
  real *weight, *bias, *gamma, *beta, *mean, *variance;
  real* state[4][2];      // of weight, bias, gamma, and beta
  const uint8_t* skip;    // per replica: whether the input is added to the output; may be null
  const double* eps;      // per replica
};

constexpr int CHAINS = 4;  // of sums: an addition takes several cycles

// Sums over the rows of one column of vectors. `term` returns the vector of a row.
template <class Term> INLINE V column_sum(int64_t n, Term term) {
  V s[CHAINS] = {};
  int64_t i = 0;
  for (; i + CHAINS <= n; i += CHAINS) UNROLL for (int u = 0; u < CHAINS; u++) s[u] += term(i + u);
  for (; i < n; i++) s[0] += term(i);
  return (s[0] + s[1]) + (s[2] + s[3]);
}

// y (n, width) without bias becomes the normalized features, and h the activations.
static void norm_forward(int64_t n, const Layer& f, int64_t q, real* y, real* h, const real* before, real* scale) {
  int64_t stride = stride_of(f.out), at = q * f.out;
  for (int64_t j = 0; j < f.out; j += VL) {
    int64_t count = std::min(VL, f.out - j);
    V mean = column_sum(n, [&](int64_t i) { return load(y + i * stride + j); }) / (real)n;
    V variance = column_sum(n, [&](int64_t i) { V d = load(y + i * stride + j) - mean; return d * d; }) / (real)n;
    V inverse = 1 / root(variance + (real)f.eps[q]);
    V gamma = load(f.gamma + at + j, count), beta = load(f.beta + at + j, count), bias = load(f.bias + at + j, count);
    store(scale + j, inverse);
    V m = load(f.mean + at + j, count), v = load(f.variance + at + j, count);
    store(f.mean + at + j, m + (real)0.1 * (mean + bias - m), count);
    store(f.variance + at + j, v + (real)0.1 * (variance * ((real)n / (real)std::max<int64_t>(n - 1, 1)) - v), count);
    for (int64_t i = 0; i < n; i++) {
      int64_t p = i * stride + j;
      V x = (load(y + p) - mean) * inverse, z = gamma * x + beta;
      store(y + p, x);
      z = f.active ? where_positive(z, z) : z;
      z = (real)f.factor * z;
      store(h + p, before ? z + load(before + p) : z);
    }
  }
}

// The gradient of h becomes that of y before normalization, in place in `d`; gradients of gamma and beta.
static void norm_backward(int64_t n, const Layer& f, int64_t q, const real* x, real* d, const real* scale, real* dgamma, real* dbeta) {
  int64_t stride = stride_of(f.out), at = q * f.out;
  for (int64_t j = 0; j < f.out; j += VL) {
    int64_t count = std::min(VL, f.out - j);
    V gamma = load(f.gamma + at + j, count), beta = load(f.beta + at + j, count);
    if (f.active)
      for (int64_t i = 0; i < n; i++) {
        int64_t p = i * stride + j;
        store(d + p, where_positive(gamma * load(x + p) + beta, load(d + p)));
      }
    V sum = column_sum(n, [&](int64_t i) { return load(d + i * stride + j); });
    V along = column_sum(n, [&](int64_t i) { return load(d + i * stride + j) * load(x + i * stride + j); });
    store(dbeta + j, sum);
    store(dgamma + j, along);
    V k = gamma * load(scale + j), a = -k * sum / (real)n, b = -k * along / (real)n;
    for (int64_t i = 0; i < n; i++) {
      int64_t p = i * stride + j;
      store(d + p, load(d + p) * k + a + load(x + p) * b);
    }
  }
}

static void rectify(int64_t count, const real* x, real* y) {
  for (int64_t i = 0; i < count; i += VL) store(y + i, where_positive(load(x + i), load(x + i)));
}

// As `norm_forward`. y may be h.
static void plain_forward(int64_t n, const Layer& f, int64_t q, real* y, real* h, const real* before) {
  int64_t stride = stride_of(f.out);
  for (int64_t j = 0; j < f.out; j += VL) {
    V bias = load(f.bias + q * f.out + j, std::min(VL, f.out - j));
    for (int64_t i = 0; i < n; i++) {
      int64_t p = i * stride + j;
      V z = load(y + p) + bias;
      store(y + p, z);
      z = f.active ? where_positive(z, z) : z;
      z = (real)f.factor * z;
      store(h + p, before ? z + load(before + p) : z);
    }
  }
}

static void plain_backward(int64_t n, const Layer& f, const real* y, real* d, real* dbias) {
  int64_t stride = stride_of(f.out);
  for (int64_t j = 0; j < f.out; j += VL) {
    if (f.active)
      for (int64_t i = 0; i < n; i++) { int64_t p = i * stride + j; store(d + p, where_positive(load(y + p), load(d + p))); }
    store(dbias + j, column_sum(n, [&](int64_t i) { return load(d + i * stride + j); }));
  }
}

// y (n, width) without bias becomes the activations, with running statistics.
static void eval_forward(int64_t n, const Layer& f, int64_t q, real* y, const real* before) {
  int64_t stride = stride_of(f.out), at = q * f.out;
  for (int64_t j = 0; j < f.out; j += VL) {
    int64_t count = std::min(VL, f.out - j);
    V scale = all(1), shift = load(f.bias + at + j, count);
    if (f.norm) {
      scale = load(f.gamma + at + j, count) / root(load(f.variance + at + j, count) + (real)f.eps[q]);
      shift = load(f.beta + at + j, count) + (shift - load(f.mean + at + j, count)) * scale;
    }
    for (int64_t i = 0; i < n; i++) {
      int64_t p = i * stride + j;
      V z = load(y + p) * scale + shift;
      z = f.active ? where_positive(z, z) : z;
      z = (real)f.factor * z;
      store(y + p, before ? z + load(before + p) : z);
    }
  }
}

// ---- A step ----

struct Plan {
  int64_t n, layers;
  const Layer* layer;
  void* memory;           // of all arrays
  int64_t reserved;       // bytes
  real *x, *turned, *rows, *d, *gradient, *kept, *small, *shared, *logits;
  std::vector<real*> y, h, scale;
};

struct Step {
  const Plan* plan;
  int64_t replicas, count, optimizer;   // count: number of this step, from 1
  const uint8_t* pixels;                // training images (all, inputs), or null if `batch` has the normalized images
  const real* batch;                    // (replicas, n, inputs)
  const real *mean, *scale;             // per input
  const int64_t *labels, *index;        // labels of all images; (replicas, n)
  const double *lr, *decay, *smoothing; // per replica
  double beta1, beta2, eps, momentum, dampening;
  int64_t nesterov, decoupled;
  double* sums;                         // (3, replicas): cross-entropy, correct predictions, training loss
  int64_t* diverged;                    // per replica: step of the first loss that was not finite
};

static Rates rates_of(const Step& s, int64_t q) {
  Rates r{};
  double lr = s.lr[q], decay = s.decay[q];
  r.shrink = s.decoupled ? 1 - lr * decay : 1;
  r.decay = s.decoupled ? 0 : decay;
  r.beta1 = s.beta1, r.beta2 = s.beta2, r.eps = s.eps;
  bool adam = s.optimizer == ADAM;
  r.unbias = adam ? 1 / std::sqrt(1 - std::pow(s.beta2, (double)s.count)) : 0;
  r.lr = adam ? lr / (1 - std::pow(s.beta1, (double)s.count)) : lr;
  r.momentum = s.momentum, r.undamped = s.count == 1 ? 1 : 1 - s.dampening, r.nesterov = s.nesterov;
  return r;
}

// Cross-entropy with label smoothing: the logits in p.d (n, classes) become their gradient. Lanes are images.
static void loss(const Plan& p, const Step& s, int64_t q, const int64_t* index, int64_t classes) {
  real* z = p.logits;
  int64_t stride = stride_of(p.n);
  transpose(p.d, p.n, classes, stride_of(classes), z);
  double hard_sum = 0, loss_sum = 0, smoothing = s.smoothing[q];
  int64_t correct = 0;
  const real even = smoothing / classes, rest = 1 - smoothing, weight = (real)1 / (real)p.n;
  for (int64_t i = 0; i < p.n; i += VL) {
    int64_t count = std::min(VL, p.n - i);
    M label{}, best{};
    for (int64_t l = 0; l < count; l++) label[l] = s.labels[index[i + l]];
    V largest = load(z + i), target{}, sum{}, total{};
    for (int64_t c = 1; c < classes; c++) {
      V x = load(z + c * stride + i);
      M more = x > largest, number = M{} + (lane)c;
      largest = chosen(more, x, largest), best = (number & more) | (best & ~more);
    }
    for (int64_t c = 0; c < classes; c++) {
      V x = load(z + c * stride + i) - largest, e = exponential(x);
      target = chosen(label == (lane)c, x, target), total += x, sum += e;
      store(z + c * stride + i, e);
    }
    V inverse = 1 / sum;
    for (int64_t c = 0; c < classes; c++) {
      V hit = chosen(label == (lane)c, all(rest), V{});
      store(z + c * stride + i, (load(z + c * stride + i) * inverse - even - hit) * weight);
    }
    for (int64_t l = 0; l < count; l++) {
      double logarithm = std::log(sum[l]), hard = logarithm - target[l];
      hard_sum += hard;
      loss_sum += (1 - smoothing) * hard + smoothing * (logarithm - total[l] / classes);
      correct += best[l] == label[l];
    }
  }
  transpose(z, classes, p.n, stride, p.d);
  if (!std::isfinite(loss_sum) && !s.diverged[q]) s.diverged[q] = s.count;
  s.sums[q] += hard_sum;
  s.sums[s.replicas + q] += correct;
  s.sums[2 * s.replicas + q] += loss_sum;
}

static bool skips(const Layer& f, int64_t q) { return f.skip && f.skip[q]; }

static void forward(const Plan& p, int64_t q) {
  const real *x = p.x, *earlier = nullptr;
  for (int64_t l = 0; l < p.layers; l++) {
    const Layer& f = p.layer[l];
    int64_t in_stride = stride_of(f.in), out_stride = stride_of(f.out);
    real* y = f.pre ? p.h[l] : p.y[l];
    if (f.pre) rectify(p.n * in_stride, x, p.y[l]);
    transpose(f.weight + q * f.out * f.in, f.out, f.in, f.in, p.turned);
    long_product(p.n, padded(f.out), f.in, {f.pre ? p.y[l] : x, in_stride, 1}, p.turned, out_stride, y, out_stride);
    const real* before = !skips(f, q) ? nullptr : f.again ? earlier : x;
    if (f.norm) norm_forward(p.n, f, q, y, p.h[l], before, p.scale[l]);
    else plain_forward(p.n, f, q, y, p.h[l], before);
    earlier = x, x = p.h[l];
  }
}

// Logits (n, classes) of images (n, inputs). Activations go through p.d, p.gradient, and p.kept in turn.
static void predict(const Plan& p, int64_t q, const real* images, real* logits) {
  const real *x = images, *earlier = nullptr;
  int64_t in_stride = p.layer[0].in;
  real* const turns[] = {p.d, p.gradient, p.kept};
  for (int64_t l = 0; l < p.layers; l++) {
    const Layer& f = p.layer[l];
    real *h = turns[l % 3], *rectified = turns[(l + 1) % 3];
    int64_t out_stride = stride_of(f.out);
    if (f.pre) rectify(p.n * in_stride, x, rectified);
    transpose(f.weight + q * f.out * f.in, f.out, f.in, f.in, p.turned);
    long_product(p.n, padded(f.out), f.in, {f.pre ? rectified : x, in_stride, 1}, p.turned, out_stride, h, out_stride);
    eval_forward(p.n, f, q, h, !skips(f, q) ? nullptr : f.again ? earlier : x);
    earlier = x, x = h, in_stride = out_stride;
  }
  int64_t classes = p.layer[p.layers - 1].out;
  for (int64_t i = 0; i < p.n; i++) memcpy(logits + i * classes, x + i * in_stride, classes * sizeof(real));
}

template <Optimizer KIND>
static void backward(const Plan& p, int64_t q, const Rates& rates) {
  // p.d is the gradient of the output of layer l; p.gradient that of its input
  real *d = p.d, *next = p.gradient;
  for (int64_t l = p.layers - 1; l >= 0; l--) {
    const Layer& f = p.layer[l];
    int64_t out_stride = stride_of(f.out), in_stride = stride_of(f.in), at = q * f.out;
    real *dbias = p.small, *dgamma = dbias + out_stride, *dbeta = dgamma + out_stride, *second = dbeta + out_stride;
    bool twice = l + 1 < p.layers && p.layer[l + 1].again;  // this is the first of two applications
    bool adds = !f.again && skips(twice ? p.layer[l + 1] : f, q);
    if (f.again && skips(f, q)) memcpy(p.kept, d, p.n * out_stride * sizeof(real));
    if (adds) memcpy(next, twice ? p.kept : d, p.n * out_stride * sizeof(real));
    if (f.factor != 1)
      for (int64_t i = 0; i < p.n * out_stride; i += VL) store(d + i, (real)f.factor * load(d + i));
    if (f.norm) { norm_backward(p.n, f, q, p.y[l], d, p.scale[l], dgamma, dbeta); memset(dbias, 0, out_stride * sizeof(real)); }
    else plain_backward(p.n, f, p.y[l], d, dbias);
    real* weight = f.weight + q * f.out * f.in;
    if (l) {
      const real* rows = weight;
      if (in_stride != f.in) {  // rows that are readable up to whole vectors, and `in_stride` apart
        for (int64_t o = 0; o < f.out; o++) memcpy(p.rows + o * in_stride, weight + o * f.in, f.in * sizeof(real));
        rows = p.rows;
      }
      if (f.pre) {
        product(p.n, padded(f.in), f.out, {d, out_stride, 1}, rows, in_stride, p.kept, in_stride, Set{});
        for (int64_t i = 0; i < p.n * in_stride; i += VL) {
          V g = where_positive(load(p.y[l] + i), load(p.kept + i));
          store(next + i, adds ? g + load(next + i) : g);
        }
      } else if (adds) product(p.n, padded(f.in), f.out, {d, out_stride, 1}, rows, in_stride, next, in_stride, Add{});
      else product(p.n, padded(f.in), f.out, {d, out_stride, 1}, rows, in_stride, next, in_stride, Set{});
    }
    auto slot = [&](int i, int64_t offset) {
      return Slot{f.state[i][0] ? f.state[i][0] + offset : nullptr, f.state[i][1] ? f.state[i][1] + offset : nullptr};
    };
    const real* input = f.pre ? p.y[l] : l ? p.h[l - 1] : p.x;
    Matrix turned{d, 1, out_stride};
    if (f.again) {  // the first application adds its gradients and updates
      product(f.out, padded(f.in), p.n, turned, input, in_stride, p.shared, in_stride, Set{});
      memcpy(second, p.small, 3 * out_stride * sizeof(real));
    } else if (twice) {
      product(f.out, padded(f.in), p.n, turned, input, in_stride, p.shared, in_stride, Add{});
      for (int64_t i = 0; i < 3 * out_stride; i++) p.small[i] += second[i];
      for (int64_t o = 0; o < f.out; o++)
        update_all<KIND>(weight + o * f.in, slot(0, (at + o) * f.in), p.shared + o * in_stride, rates, f.in);
    } else {
      Update<KIND> change{weight, slot(0, at * f.in), &rates};
      product(f.out, f.in, p.n, turned, input, in_stride, weight, f.in, change);
    }
    if (!f.again) update_all<KIND>(f.bias + at, slot(1, at), dbias, rates, f.out);
    if (f.norm && !f.again) {
      update_all<KIND>(f.gamma + at, slot(2, at), dgamma, rates, f.out);
      update_all<KIND>(f.beta + at, slot(3, at), dbeta, rates, f.out);
    }
    std::swap(d, next);
  }
}

static void normalize(int64_t inputs, const uint8_t* pixels, const real* mean, const real* scale, real* x) {
  for (int64_t j = 0; j < inputs; j++) x[j] = ((real)pixels[j] - mean[j]) * scale[j];
}

static void read_batch(const Plan& p, const Step& s, int64_t q, const int64_t* index) {
  int64_t inputs = p.layer[0].in, stride = stride_of(inputs);
  for (int64_t i = 0; i < p.n; i++) {
    real* x = p.x + i * stride;
    if (s.batch) memcpy(x, s.batch + (q * p.n + i) * inputs, inputs * sizeof(real));
    else {
      if (i + 4 < p.n) for (int64_t o = 0; o < inputs; o += 64) __builtin_prefetch(s.pixels + index[i + 4] * inputs + o);
      normalize(inputs, s.pixels + index[i] * inputs, s.mean, s.scale, x);
    }
  }
}

extern "C" {

void native_free(Plan* p) {
  munmap(p->memory, p->reserved);
  delete p;
}

// Scratch memory for batches of n images; null without memory. `layer` must outlive the plan. Without `trains`, only for predictions.
Plan* native_plan(int64_t n, int64_t layers, const Layer* layer, int64_t trains) {
  Plan* p = new Plan{};
  p->n = n, p->layers = layers, p->layer = layer;
  p->y.resize(layers), p->h.resize(layers), p->scale.resize(layers);
  int64_t widest = 0, weights = 0;
  for (int64_t l = 0; l < layers; l++) {
    int64_t in = stride_of(layer[l].in), out = stride_of(layer[l].out);
    widest = std::max({widest, l ? in : 0, out});
    weights = std::max(weights, in * out);
  }
  constexpr int64_t LINE = 64, LARGE_PAGE = 1 << 21;  // bytes
  auto divide = [&](char* memory) {  // among the arrays; returns the number of bytes
    int64_t used = 0;
    auto take = [&](real*& array, int64_t count) {
      if (memory) array = (real*)(memory + used);
      used += (count * (int64_t)sizeof(real) + LINE - 1) / LINE * LINE + LINE;  // a line further, so that few begin in the same set
    };
    take(p->x, n * stride_of(layer[0].in)), take(p->turned, weights);
    for (real** array : {&p->d, &p->gradient, &p->kept}) take(*array, n * widest);
    if (trains) {
      take(p->rows, weights), take(p->shared, weights), take(p->small, 6 * widest);
      take(p->logits, layer[layers - 1].out * stride_of(n));
      for (int64_t l = 0; l < layers; l++) {
        int64_t out = stride_of(layer[l].out);
        take(p->y[l], n * (layer[l].pre ? stride_of(layer[l].in) : out)), take(p->h[l], n * out), take(p->scale[l], out);
      }
    }
    return used;
  };
  int64_t used = divide(nullptr), bytes = (used + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
  p->reserved = bytes + LARGE_PAGE;  // pages that nothing writes take no memory
  p->memory = mmap(nullptr, p->reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p->memory == MAP_FAILED) { delete p; return nullptr; }
  char* start = (char*)(((uintptr_t)p->memory + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE);
#ifdef MADV_HUGEPAGE  // else a step waits for the addresses of many small pages
  if (used >= LARGE_PAGE / 8) madvise(start, bytes, MADV_HUGEPAGE);
#endif
  divide(start);
  return p;
}

// Logits (replicas, n, classes) of images (replicas, n, inputs) or, with a stride of 0, (n, inputs) for all replicas.
void native_predict(const Plan* plan, const Layer* layer, int64_t replicas, const real* images, int64_t stride, real* logits) {
  Plan p = *plan;
  p.layer = layer;
  for (int64_t q = 0; q < replicas; q++) predict(p, q, images + q * stride, logits + q * p.n * layer[p.layers - 1].out);
}

// The same for pixels (n, inputs) of all replicas.
void native_predict_pixels(
    const Plan* plan, const Layer* layer, int64_t replicas, const uint8_t* pixels, const real* mean, const real* scale, real* logits) {
  int64_t inputs = layer->in;
  for (int64_t i = 0; i < plan->n; i++) normalize(inputs, pixels + i * inputs, mean, scale, plan->x + i * inputs);
  native_predict(plan, layer, replicas, plan->x, 0, logits);
}

// Steps one after the other, of one replica before the next, so that its parameters stay in the cache.
void native_steps(const Step* steps, int64_t count) {
  for (int64_t q = 0; q < steps->replicas; q++)
    for (const Step* s = steps; s < steps + count; s++) {
      const Plan* p = s->plan;
      const Layer& last = p->layer[p->layers - 1];
      const int64_t* index = s->index + q * p->n;
      read_batch(*p, *s, q, index);
      forward(*p, q);
      memcpy(p->d, p->h[p->layers - 1], p->n * stride_of(last.out) * sizeof(real));
      loss(*p, *s, q, index, last.out);
      Rates rates = rates_of(*s, q);
      if (s->optimizer == ADAM) backward<ADAM>(*p, q, rates);
      else backward<SGD>(*p, q, rates);
    }
}

}  // extern "C"
