// Batch normalization of maps in training on a CPU, with the addition, the ReLU, and the max-pooling that may follow it, and
// its gradients.
//
// Maps are stored with channels last: a matrix with a row per pixel. As many rows as give whole vectors are one line, so that
// narrow maps need no special code: a line has several positions per channel, which are combined at the end. Lines are read in
// blocks that stay in the L1 cache. Sums inside a block are in the format of the maps, those over blocks in double.
// Compile with -DREAL=float or double, the format of everything but maps in bf16.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>

#include "moments.h"

constexpr int64_t GROUP = 4;               // vectors whose sums are computed together: an addition takes several cycles
constexpr int64_t SPAN = GROUP * VL;
constexpr int64_t BLOCK = 16384;           // bytes
constexpr int64_t SHORTEST = 8;            // lines of a block

// ---- Numbers and groups of vectors: N is Group or real ----

struct Group { V v[GROUP]; };
#define EACH UNROLL for (int u = 0; u < GROUP; u++)
INLINE Group operator+(Group a, const Group& b) { EACH a.v[u] += b.v[u]; return a; }
INLINE Group operator-(Group a, const Group& b) { EACH a.v[u] -= b.v[u]; return a; }
INLINE Group operator*(Group a, const Group& b) { EACH a.v[u] *= b.v[u]; return a; }
INLINE Group operator/(Group a, real b) { EACH a.v[u] /= b; return a; }

// x where z is positive or NaN, else 0: a loss that is not finite stays so.
INLINE real where_positive(real z, real x) { return z <= 0 ? 0 : x; }
INLINE Group where_positive(const Group& z, Group x) { EACH x.v[u] = (V)((M)x.v[u] & ~(M)(z.v[u] <= 0)); return x; }

template <class N> INLINE N load(const real* p) {
  if constexpr (sizeof(N) == sizeof(real)) return *p;
  else { Group x; EACH x.v[u] = *(const V*)(p + u * VL); return x; }
}
INLINE void store(real* p, real x) { *p = x; }
INLINE void store(real* p, const Group& x) { EACH *(V*)(p + u * VL) = x.v[u]; }

// bf16 is the upper half of a float. Two numbers are one word: their vectors are its lower and its upper halves, so that nothing
// has to be moved between the elements of a vector. The positions of a group are in this order then; see `slot`.
struct bf16 { uint16_t bits; };
typedef uint32_t Words __attribute__((vector_size(VL * 4), aligned(2), may_alias));
typedef float Floats __attribute__((vector_size(VL * 4), aligned(4), may_alias));

template <class N> INLINE N load(const bf16* p) {
  if constexpr (sizeof(N) == sizeof(real)) {
    uint32_t word = (uint32_t)p->bits << 16;
    float x;
    memcpy(&x, &word, 4);
    return x;
  } else {
    Group x;
    EACH {
      Words w = *(const Words*)(p + u / 2 * 2 * VL);
      x.v[u] = __builtin_convertvector((Floats)(u % 2 ? w & 0xffff0000 : w << 16), V);
    }
    return x;
  }
}

// In the upper half of each word: to the nearest number, ties to even; NaN stays NaN.
INLINE Words rounded(V v) {
  Floats x = __builtin_convertvector(v, Floats);
  Words w = (Words)x, number = (Words)(x == x);
  return ((w + 0x7fff + ((w >> 16) & 1)) & number) | (0x7fc00000 & ~number);
}
INLINE void store(bf16* p, const Group& x) {
  UNROLL for (int u = 0; u < GROUP; u += 2) *(Words*)(p + u * VL) = rounded(x.v[u]) >> 16 | (rounded(x.v[u + 1]) & 0xffff0000);
}
INLINE void store(bf16* p, real v) {
  float x = v;
  uint32_t w;
  memcpy(&w, &x, 4);
  p->bits = x == x ? (w + 0x7fff + ((w >> 16) & 1)) >> 16 : 0x7fc0;
}

// Where a position of a line is in the vectors of its group.
template <class T> INLINE int64_t slot(int64_t position) {
  if (sizeof(T) != 2) return position;
  int64_t within = position % (2 * VL);
  return position - within + within / 2 + within % 2 * VL;
}

// ---- Lines ----

struct Lines {
  int64_t channels, width, count, rest;  // numbers in a line, complete lines, and numbers after them
  int64_t block;                         // lines
};

static Lines lines_of(int64_t rows, int64_t channels) {
  int64_t joined = SPAN / std::gcd(SPAN, channels), width = joined * channels, count = rows / joined;
  return {channels, width, count, (rows - count * joined) * channels, std::max<int64_t>(SHORTEST, BLOCK / sizeof(real) / width)};
}

// Calls f(line, lines, position) for each group of positions in each block of lines.
template <class F> INLINE void in_blocks(const Lines& s, F f) {
  for (int64_t line = 0; line < s.count; line += s.block)
    for (int64_t position = 0; position < s.width; position += SPAN) f(line, std::min(s.block, s.count - line), position);
}

// Calls f(Group, offset, slot) for each group of the complete lines, and f(real, offset, slot) for each number after them.
template <class T, class F> INLINE void everywhere(const Lines& s, F f) {
  for (int64_t line = 0; line < s.count; line++)
    for (int64_t position = 0; position < s.width; position += SPAN) f(Group{}, line * s.width + position, position);
  for (int64_t position = 0; position < s.rest; position++) f(real{}, s.count * s.width + position, slot<T>(position));
}

// Repeats a value per channel for the positions of a line.
template <class T, class F> static std::vector<real> by_slot(const Lines& s, F value) {
  std::vector<real> line(s.width);
  for (int64_t position = 0; position < s.width; position++) line[slot<T>(position)] = value(position % s.channels);
  return line;
}

// ---- Statistics ----

// Moments of each channel. A block is read twice, but only once from memory.
template <class T> static std::vector<Moments> moments_of(const Lines& s, const T* x) {
  std::vector<double> mean(s.width), squares(s.width);
  in_blocks(s, [&](int64_t line, int64_t lines, int64_t position) {
    const T* first = x + line * s.width + position;
    Group center{}, square{};
    for (int64_t i = 0; i < lines; i++) center = center + load<Group>(first + i * s.width);
    center = center / (real)lines;
    for (int64_t i = 0; i < lines; i++) {
      Group away = load<Group>(first + i * s.width) - center;
      square = square + away * away;
    }
    double share = (double)lines / (line + lines), weight = line * share;
    const real *centers = (const real*)&center, *sums = (const real*)&square;
    for (int64_t l = 0; l < SPAN; l++) {  // as `merge`
      double delta = centers[l] - mean[position + l];
      mean[position + l] += delta * share;
      squares[position + l] += sums[l] + delta * delta * weight;
    }
  });
  std::vector<Moments> channels(s.channels, Moments{});
  for (int64_t position = 0; position < s.width; position++) {
    Moments& channel = channels[position % s.channels];
    merge(channel, {(double)s.count, mean[slot<T>(position)], squares[slot<T>(position)]});
    if (position < s.rest) merge(channel, {1, (double)load<real>(x + s.count * s.width + position), 0});
  }
  return channels;
}

// ---- Forward and backward ----

enum Kind : int64_t { PLAIN, RELU, ADD_RELU };  // what follows the normalization

struct Norm {  // vectors of channels
  int64_t rows, channels, kind;
  double eps;
  const real *gamma, *beta;
  real *mean, *scale;                       // of the batch: written by the forward pass, read by the backward pass
  real *running_mean, *running_variance;    // updated by the forward pass
  real *dgamma, *dbeta;                     // written by the backward pass
};

// The factors of a line: (x - mean) * slope + beta.
struct Factors { std::vector<real> mean, slope, beta; };

template <class T> static Factors factors_of(const Lines& s, const Norm& f) {
  return {by_slot<T>(s, [&](int64_t c) { return f.mean[c]; }), by_slot<T>(s, [&](int64_t c) { return f.gamma[c] * f.scale[c]; }),
          by_slot<T>(s, [&](int64_t c) { return f.beta[c]; })};
}

template <class N> INLINE N normalized(const Factors& f, N x, int64_t at) {
  return (x - load<N>(&f.mean[at])) * load<N>(&f.slope[at]) + load<N>(&f.beta[at]);
}

template <Kind KIND, class T> static void forward(const Norm& f, const T* x, const T* added, T* h) {
  Lines s = lines_of(f.rows, f.channels);
  set_statistics(f, moments_of(s, x));
  Factors factors = factors_of<T>(s, f);
  everywhere<T>(s, [&](auto number, int64_t p, int64_t at) {
    typedef decltype(number) N;
    N z = normalized(factors, load<N>(x + p), at);
    if (KIND == ADD_RELU) z = z + load<N>(added + p);
    store(h + p, KIND == PLAIN ? z : where_positive(z, z));
  });
}

template <class T> struct Gradients {  // and what they are computed from; `dadded` is the gradient before the ReLU
  const T *x, *h, *dh;
  T *dx, *dadded;
};

// The gradient before the ReLU.
template <Kind KIND, class N, class T> INLINE N masked(const Factors& f, const Gradients<T>& g, int64_t p, int64_t at) {
  N d = load<N>(g.dh + p);
  if (KIND == RELU) return where_positive(normalized(f, load<N>(g.x + p), at), d);
  return KIND == ADD_RELU ? where_positive(load<N>(g.h + p), d) : d;
}

// Sums of the gradient before the ReLU, and of its products with x - mean, for each channel; writes `dadded`.
template <Kind KIND, class T>
static void sums_of(const Lines& s, const Factors& f, const Gradients<T>& g, double* sum, double* along) {
  std::vector<double> line_sum(s.width), line_along(s.width);
  auto products = [&](auto& part, auto& part_along, int64_t p, int64_t at) __attribute__((always_inline)) {
    typedef std::remove_reference_t<decltype(part)> N;
    N d = masked<KIND, N>(f, g, p, at);
    if (KIND == ADD_RELU) store(g.dadded + p, d);
    part = part + d;
    part_along = part_along + d * (load<N>(g.x + p) - load<N>(&f.mean[at]));
  };
  in_blocks(s, [&](int64_t line, int64_t lines, int64_t position) {
    Group part{}, part_along{};
    for (int64_t i = line; i < line + lines; i++) products(part, part_along, i * s.width + position, position);
    const real *parts = (const real*)&part, *parts_along = (const real*)&part_along;
    for (int64_t l = 0; l < SPAN; l++) line_sum[position + l] += parts[l], line_along[position + l] += parts_along[l];
  });
  for (int64_t position = 0; position < s.width; position++) {
    real part{}, part_along{};
    if (position < s.rest) products(part, part_along, s.count * s.width + position, slot<T>(position));
    sum[position % s.channels] += line_sum[slot<T>(position)] + part;
    along[position % s.channels] += line_along[slot<T>(position)] + part_along;
  }
}

// What the gradient of x has besides that of its own output: slope * (d - constant - (x - mean) * linear).
struct Means { std::vector<real> constant, linear; };

// Computes the gradients of gamma and beta.
template <class T> static Means means_of(const Norm& f, const Lines& s, const std::vector<double>& sum, const std::vector<double>& along) {
  for (int64_t c = 0; c < f.channels; c++) f.dbeta[c] = sum[c], f.dgamma[c] = along[c] * f.scale[c];
  return {by_slot<T>(s, [&](int64_t c) { return sum[c] / f.rows; }),
          by_slot<T>(s, [&](int64_t c) { return along[c] / f.rows * f.scale[c] * f.scale[c]; })};
}

template <class N> INLINE N gradient_of_x(const Factors& f, const Means& m, N d, N x, int64_t at) {
  return load<N>(&f.slope[at]) * (d - load<N>(&m.constant[at]) - (x - load<N>(&f.mean[at])) * load<N>(&m.linear[at]));
}

template <Kind KIND, class T> static void backward(const Norm& f, const Gradients<T>& g) {
  Lines s = lines_of(f.rows, f.channels);
  Factors factors = factors_of<T>(s, f);
  std::vector<double> sum(f.channels), along(f.channels);
  sums_of<KIND>(s, factors, g, sum.data(), along.data());
  Means means = means_of<T>(f, s, sum, along);
  everywhere<T>(s, [&](auto number, int64_t p, int64_t at) {
    typedef decltype(number) N;
    N d = KIND == ADD_RELU ? load<N>(g.dadded + p) : masked<KIND, N>(factors, g, p, at);
    store(g.dx + p, gradient_of_x(factors, means, d, load<N>(g.x + p), at));
  });
}

// ---- The same with ReLU and max-pooling (kernel 3, stride 2, padding 1) ----

// Of the maps before the pooling, only x is stored. For each output, the forward pass keeps the x that it comes from, and where
// that is in the window. Groups are those of one pixel: channels are a multiple of SPAN.
struct Pool { int64_t images, height, width; };  // of x

struct Window { int64_t count, pixel[9], index[9]; };  // without the padding

typedef MaskOf<real>::type lane;
typedef uint8_t Bytes __attribute__((vector_size(VL), aligned(1), may_alias));

static int64_t halved(int64_t length) { return (length + 1) / 2; }

static Window window_of(const Pool& s, int64_t line, int64_t column) {
  Window w{};
  for (int64_t index = 0; index < 9; index++) {
    int64_t i = 2 * line - 1 + index / 3, j = 2 * column - 1 + index % 3;
    if (i < 0 || i >= s.height || j < 0 || j >= s.width) continue;
    w.pixel[w.count] = i * s.width + j, w.index[w.count++] = index;
  }
  return w;
}

// Calls f(window, offset of the image, offset of the output, position) for each group of the outputs of an image.
template <class F> INLINE void in_windows(const Pool& s, int64_t image, int64_t channels, F f) {
  int64_t lines = halved(s.height), columns = halved(s.width), first = image * s.height * s.width * channels;
  for (int64_t line = 0; line < lines; line++)
    for (int64_t column = 0; column < columns; column++) {
      Window w = window_of(s, line, column);
      int64_t output = ((image * lines + line) * columns + column) * channels;
      for (int64_t position = 0; position < channels; position += SPAN) f(w, first + position, output + position, position);
    }
}

template <class T> static void pool_forward(const Norm& f, const Pool& s, const T* x, T* h, T* kept, uint8_t* indices) {
  Lines lines = lines_of(f.rows, f.channels);
  set_statistics(f, moments_of(lines, x));
  Factors factors = factors_of<T>(lines, f);
  for (int64_t image = 0; image < s.images; image++)
    in_windows(s, image, f.channels, [&](const Window& w, int64_t first, int64_t output, int64_t at) __attribute__((always_inline)) {
      Group from = load<Group>(x + first + w.pixel[0] * f.channels), best = normalized(factors, from, at);
      M index[GROUP];
      EACH index[u] = M{} + (lane)w.index[0];
      for (int64_t k = 1; k < w.count; k++) {
        Group y = load<Group>(x + first + w.pixel[k] * f.channels), z = normalized(factors, y, at);
        EACH {
          M more = z.v[u] > best.v[u];  // if one number of a channel is NaN, all are
          best.v[u] = (V)(((M)z.v[u] & more) | ((M)best.v[u] & ~more));
          from.v[u] = (V)(((M)y.v[u] & more) | ((M)from.v[u] & ~more));
          index[u] = ((M{} + (lane)w.index[k]) & more) | (index[u] & ~more);
        }
      }
      store(h + output, where_positive(best, best));
      store(kept + output, from);
      EACH *(Bytes*)(indices + output + u * VL) = __builtin_convertvector(index[u], Bytes);
    });
}

template <class T>
static void pool_backward(const Norm& f, const Pool& s, const T* x, const T* kept, const uint8_t* indices, const T* dh, T* dx) {
  int64_t pixels = s.height * s.width, outputs = s.images * halved(s.height) * halved(s.width);
  Lines lines = lines_of(f.rows, f.channels);
  Factors factors = factors_of<T>(lines, f);
  Gradients<T> g{kept, nullptr, dh, nullptr, nullptr};
  std::vector<double> sum(f.channels), along(f.channels);
  sums_of<RELU>(lines_of(outputs, f.channels), factors, g, sum.data(), along.data());
  Means means = means_of<T>(f, lines, sum, along);
  std::vector<real> before(pixels * f.channels);  // of an image: the gradient before the ReLU, and where the pooling dropped x, 0
  for (int64_t image = 0; image < s.images; image++) {
    std::fill(before.begin(), before.end(), 0);
    in_windows(s, image, f.channels, [&](const Window& w, int64_t, int64_t output, int64_t at) __attribute__((always_inline)) {
      Group d = masked<RELU, Group>(factors, g, output, at);
      M index[GROUP];
      EACH index[u] = __builtin_convertvector(*(const Bytes*)(indices + output + u * VL), M);
      for (int64_t k = 0; k < w.count; k++) {
        real* target = &before[w.pixel[k] * f.channels + at];
        Group t = load<Group>(target);
        EACH t.v[u] += (V)((M)d.v[u] & (index[u] == (lane)w.index[k]));
        store(target, t);
      }
    });
    const T* first = x + image * pixels * f.channels;
    T* target = dx + image * pixels * f.channels;
    for (int64_t p = 0; p < pixels * f.channels; p += SPAN)
      store(target + p, gradient_of_x(factors, means, load<Group>(&before[p]), load<Group>(first + p), p % f.channels));
  }
}

template <class T> static void forward_any(const Norm& f, const void* x, const void* added, void* h) {
  if (f.kind == PLAIN) forward<PLAIN>(f, (const T*)x, (const T*)added, (T*)h);
  else if (f.kind == RELU) forward<RELU>(f, (const T*)x, (const T*)added, (T*)h);
  else forward<ADD_RELU>(f, (const T*)x, (const T*)added, (T*)h);
}

template <class T> static void backward_any(const Norm& f, const void* x, const void* h, const void* dh, void* dx, void* dadded) {
  Gradients<T> g{(const T*)x, (const T*)h, (const T*)dh, (T*)dx, (T*)dadded};
  if (f.kind == PLAIN) backward<PLAIN>(f, g);
  else if (f.kind == RELU) backward<RELU>(f, g);
  else backward<ADD_RELU>(f, g);
}

extern "C" {

void maps_forward(const Norm* f, const void* x, const void* added, void* h) { forward_any<real>(*f, x, added, h); }
void maps_backward(const Norm* f, const void* x, const void* h, const void* dh, void* dx, void* dadded) {
  backward_any<real>(*f, x, h, dh, dx, dadded);
}
void maps_forward_bf16(const Norm* f, const void* x, const void* added, void* h) { forward_any<bf16>(*f, x, added, h); }
void maps_backward_bf16(const Norm* f, const void* x, const void* h, const void* dh, void* dx, void* dadded) {
  backward_any<bf16>(*f, x, h, dh, dx, dadded);
}

void maps_pool_forward(const Norm* f, const Pool* s, const real* x, real* h, real* kept, uint8_t* indices) {
  pool_forward(*f, *s, x, h, kept, indices);
}
void maps_pool_backward(const Norm* f, const Pool* s, const real* x, const real* kept, const uint8_t* indices, const real* dh, real* dx) {
  pool_backward(*f, *s, x, kept, indices, dh, dx);
}
void maps_pool_forward_bf16(const Norm* f, const Pool* s, const bf16* x, bf16* h, bf16* kept, uint8_t* indices) {
  pool_forward(*f, *s, x, h, kept, indices);
}
void maps_pool_backward_bf16(const Norm* f, const Pool* s, const bf16* x, const bf16* kept, const uint8_t* indices, const bf16* dh, bf16* dx) {
  pool_backward(*f, *s, x, kept, indices, dh, dx);
}

}  // extern "C"
