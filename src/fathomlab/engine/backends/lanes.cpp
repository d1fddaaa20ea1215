// Training of CNNs with few channels on a CPU: convolutions, batch norm with the addition and the ReLU after it, and max-pooling.
//
// Maps are stored as (blocks, height, width, channels, images of a block), so that the lanes of a vector are images. Every number
// of channels then uses full vectors, and a pixel reads no padding. The channels of a pack are joined: replicas are groups of a convolution.
// The images of a block are a multiple of a vector.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "moments.h"

constexpr int OUT = BYTES == 64 ? 8 : 4;  // channels whose sums stay in registers, each for two vectors
constexpr int ROWS = BYTES == 64 ? 4 : 2, COLUMNS = 2;  // tile of the gradient of the kernels, for each column of the kernel
constexpr int64_t PORTION = 1 << 19;      // bytes of maps that stay in the L2 cache
constexpr int64_t BLOCK = 256;            // numbers of a channel whose sums are in the format of the maps

INLINE V load(const real* p) { return *(const V*)p; }
INLINE void store(real* p, V x) { *(V*)p = x; }

// ---- Convolutions ----

struct Conv {
  int64_t blocks, images, groups, inputs, outputs;  // images of a block, channels of a group
  int64_t height, width, size, stride;      // of the input; size of the kernel, 1 or 3; stride, 1 or 2
  int64_t pad() const { return size / 2; }
  int64_t rows() const { return (height - 1) / stride + 1; }
  int64_t columns() const { return (width - 1) / stride + 1; }
};

struct Tap { int64_t pixel, position; };  // a pixel that is seen, and where in the kernel

// y (channel, images) = sum over taps and depth of x (pixel, depth, images) w (position, depth, wide), for T channels.
template <bool ADD, int T, int NV>
INLINE void gathered(const std::vector<Tap>& taps, const real* x, int64_t pixel, int64_t n, const real* w, int64_t depth,
                     int64_t wide, real* y) {
  V a[T][NV] = {};
  if (ADD) {
    UNROLL for (int t = 0; t < T; t++) {
      UNROLL for (int v = 0; v < NV; v++) a[t][v] = load(y + t * n + v * VL);
    }
  }
  for (const Tap& tap : taps) {
    const real *p = x + tap.pixel * pixel, *q = w + tap.position * depth * wide;
    for (int64_t d = 0; d < depth; d++, p += n, q += wide) {
      V in[NV];
      UNROLL for (int v = 0; v < NV; v++) in[v] = load(p + v * VL);
      UNROLL for (int t = 0; t < T; t++) {
        UNROLL for (int v = 0; v < NV; v++) a[t][v] += in[v] * q[t];
      }
    }
  }
  UNROLL for (int t = 0; t < T; t++) {
    UNROLL for (int v = 0; v < NV; v++) store(y + t * n + v * VL, a[t][v]);
  }
}

template <bool ADD, int NV>
static void pixel_of(const std::vector<Tap>& taps, const real* x, int64_t pixel, int64_t n, const real* w, int64_t depth,
                     int64_t wide, real* y) {
  int64_t t = 0;
  for (; t + OUT <= wide; t += OUT) gathered<ADD, OUT, NV>(taps, x, pixel, n, w + t, depth, wide, y + t * n);
  for (; t + 4 <= wide; t += 4) gathered<ADD, 4, NV>(taps, x, pixel, n, w + t, depth, wide, y + t * n);
  for (; t + 2 <= wide; t += 2) gathered<ADD, 2, NV>(taps, x, pixel, n, w + t, depth, wide, y + t * n);
  for (; t < wide; t++) gathered<ADD, 1, NV>(taps, x, pixel, n, w + t, depth, wide, y + t * n);
}

// All groups and images of one pixel. w (groups, positions, depth, wide).
template <bool ADD>
static void pixel_of_all(const Conv& f, const std::vector<Tap>& taps, const real* x, const real* w, int64_t depth, int64_t wide,
                         real* y) {
  int64_t n = f.images, kernel = f.size * f.size * depth * wide, pixel = f.groups * depth * n;
  for (int64_t g = 0; g < f.groups; g++, x += depth * n, y += wide * n, w += kernel) {
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) pixel_of<ADD, 2>(taps, x + i, pixel, n, w, depth, wide, y + i);
    for (; i < n; i += VL) pixel_of<ADD, 1>(taps, x + i, pixel, n, w, depth, wide, y + i);
  }
}

static void convolve(const Conv& f, const real* x, const real* weight, real* y) {
  int64_t taps_of = f.size * f.size, wide = f.outputs, depth = f.inputs;
  std::vector<real> w(f.groups * wide * taps_of * depth);
  for (int64_t k = 0; k < f.groups * taps_of * depth; k++) {
    int64_t g = k / (taps_of * depth), within = k % (taps_of * depth);
    for (int64_t o = 0; o < wide; o++) w[k * wide + o] = weight[(g * wide + o) * taps_of * depth + within];
  }
  std::vector<Tap> taps;
  for (int64_t line = 0; line < f.blocks * f.rows(); line++)
    for (int64_t column = 0; column < f.columns(); column++, y += f.groups * wide * f.images) {
      int64_t row = line % f.rows(), block = line / f.rows() * f.height * f.width;
      taps.clear();
      for (int64_t position = 0; position < taps_of; position++) {
        int64_t i = row * f.stride + position / f.size - f.pad(), j = column * f.stride + position % f.size - f.pad();
        if (i >= 0 && i < f.height && j >= 0 && j < f.width) taps.push_back({block + i * f.width + j, position});
      }
      pixel_of_all<false>(f, taps, x, w.data(), depth, wide, y);
    }
}

template <bool ADD> static void gradient_of_inputs(const Conv& f, const real* dy, const real* weight, real* dx) {
  int64_t taps_of = f.size * f.size, wide = f.inputs, depth = f.outputs;
  std::vector<real> w(f.groups * wide * taps_of * depth);
  for (int64_t g = 0; g < f.groups; g++)
    for (int64_t o = 0; o < depth; o++)
      for (int64_t k = 0; k < taps_of; k++, weight += wide)
        std::copy(weight, weight + wide, &w[((g * taps_of + k) * depth + o) * wide]);
  std::vector<Tap> taps;
  for (int64_t line = 0; line < f.blocks * f.height; line++)
    for (int64_t j = 0; j < f.width; j++, dx += f.groups * wide * f.images) {
      int64_t i = line % f.height, block = line / f.height * f.rows() * f.columns();
      taps.clear();
      for (int64_t position = 0; position < taps_of; position++) {
        int64_t row = i + f.pad() - position / f.size, column = j + f.pad() - position % f.size;
        bool seen = row >= 0 && column >= 0 && row % f.stride == 0 && column % f.stride == 0;
        row /= f.stride, column /= f.stride;
        if (seen && row < f.rows() && column < f.columns()) taps.push_back({block + row * f.columns() + column, position});
      }
      pixel_of_all<ADD>(f, taps, dy, w.data(), depth, wide, dx);
    }
}

// Maps of some rows and vectors of images, copied so that a channel is contiguous: (vectors, channels, rows, columns, VL).
// Columns of padding stay 0.
struct Portion {
  int64_t channels, rows, columns, pad, plane;
  std::vector<real> numbers;
  Portion(int64_t vectors, int64_t channels, int64_t rows, int64_t columns, int64_t pad)
      : channels(channels), rows(rows), columns(columns), pad(pad), plane((rows * columns | 1) * VL),  // odd: spread over the cache
        numbers(vectors * channels * plane) {}
  real* at(int64_t vector, int64_t channel, int64_t row) {
    return &numbers[(vector * channels + channel) * plane + row * columns * VL];
  }
  // Row 0 of the portion is row `first` of the maps x (height, width, channels of all groups, n). Rows outside are left out.
  void copy(const real* x, int64_t height, int64_t width, int64_t stride, int64_t n, int64_t first, int64_t vectors) {
    for (int64_t row = std::max<int64_t>(0, -first); row < std::min(rows, height - first); row++)
      for (int64_t column = 0; column < std::min(width, columns - pad); column++) {
        const real* from = x + ((first + row) * width + column) * stride;
        for (int64_t v = 0; v < vectors; v++) {
          real* to = at(v, 0, row) + (column + pad) * VL;
          for (int64_t c = 0; c < channels; c++) store(to + c * plane, load(from + c * n + v * VL));
        }
      }
  }
};

template <int W> struct Part { typedef real type __attribute__((vector_size(W * sizeof(real)), may_alias)); };
template <int W> INLINE real sum_of(const real* lane) {
  if constexpr (W == 1) return *lane;
  else {
    typedef typename Part<W / 2>::type Half;
    Half half, other;
    memcpy(&half, lane, sizeof(half)), memcpy(&other, lane + W / 2, sizeof(other));  // they may not be aligned
    half += other;
    return sum_of<W / 2>((const real*)&half);
  }
}
INLINE real sum(V x) { return sum_of<VL>((const real*)&x); }

struct Tile { int64_t vectors, rows, output, input, line, first, last; };  // line of the kernel; rows of the output

// Adds the gradient of the kernels of R outputs and C inputs, for all K positions in a line of the kernel.
template <int K, int STRIDE, int R, int C> static void add_tile(const Conv& f, Portion& x, Portion& dy, const Tile& t, double* dw) {
  V a[K][R][C] = {};
  for (int64_t v = 0; v < t.vectors; v++)
    for (int64_t row = t.first; row < t.last; row++) {
      const real *p = x.at(v, t.input, row * STRIDE + t.line), *q = dy.at(v, t.output, row);
      int64_t plane = x.plane, plane_of_outputs = dy.plane;
      V in[K][C];  // the next pixel sees K - 1 columns of this one
      UNROLL for (int k = 0; k < K; k++) {
        UNROLL for (int c = 0; c < C; c++) in[k][c] = load(p + k * VL + c * plane);
      }
      for (int64_t column = 0; column < dy.columns; column++, p += STRIDE * VL, q += VL) {
        V d[R];
        UNROLL for (int r = 0; r < R; r++) d[r] = load(q + r * plane_of_outputs);
        UNROLL for (int k = 0; k < K; k++) {
          UNROLL for (int c = 0; c < C; c++) {
            if (STRIDE > 1 || k == K - 1) in[k][c] = load(p + k * VL + c * plane);
            UNROLL for (int r = 0; r < R; r++) a[k][r][c] += d[r] * in[k][c];
            if (STRIDE == 1 && k) in[k - 1][c] = in[k][c];
          }
        }
      }
    }
  for (int k = 0; k < K; k++)
    for (int r = 0; r < R; r++)
      for (int c = 0; c < C; c++)
        dw[((t.output + r) * f.size * f.size + t.line * f.size + k) * f.inputs + t.input + c] += sum(a[k][r][c]);
}

template <int K, int STRIDE, int C> static void add_column(const Conv& f, Portion& x, Portion& dy, Tile t, double* dw) {
  for (t.output = 0; t.output + ROWS <= f.outputs; t.output += ROWS) add_tile<K, STRIDE, ROWS, C>(f, x, dy, t, dw);
  for (; t.output < f.outputs; t.output++) add_tile<K, STRIDE, 1, C>(f, x, dy, t, dw);
}

template <int K, int STRIDE> static void add_portion(const Conv& f, Portion& x, Portion& dy, Tile t, int64_t above, double* dw) {
  for (t.line = 0; t.line < K; t.line++) {  // lines of padding are left out
    t.first = std::max<int64_t>(0, (above - t.line + f.stride - 1) / f.stride);
    t.last = std::min(t.rows, (f.height - 1 + f.stride + above - t.line) / f.stride);  // the last row may see padding only
    for (t.input = 0; t.input + COLUMNS <= f.inputs; t.input += COLUMNS) add_column<K, STRIDE, COLUMNS>(f, x, dy, t, dw);
    for (; t.input < f.inputs; t.input++) add_column<K, STRIDE, 1>(f, x, dy, t, dw);
  }
}

static void gradient_of_kernels(const Conv& f, const real* x, const real* dy, real* dw) {
  int64_t n = f.images, kernels = f.outputs * f.size * f.size * f.inputs, line = (f.columns() - 1) * f.stride + f.size;
  int64_t row = (f.stride * line * f.inputs + f.columns() * f.outputs) * BYTES;
  int64_t rows = std::max<int64_t>(1, std::min(f.rows(), PORTION / row));
  rows = (f.rows() - 1) / ((f.rows() - 1) / rows + 1) + 1;  // portions of similar size
  int64_t vectors = row * rows * (n / VL) <= PORTION ? n / VL : 1;
  Portion in(vectors, f.inputs, (rows - 1) * f.stride + f.size, line, f.pad()), out(vectors, f.outputs, rows, f.columns(), 0);
  std::vector<double> sums(kernels);
  int64_t pixel = f.groups * f.inputs * n, pixel_of_outputs = f.groups * f.outputs * n;
  for (int64_t g = 0; g < f.groups; g++) {
    std::fill(sums.begin(), sums.end(), 0);
    for (int64_t at = 0; at < f.blocks * (n / VL); at += vectors) {
      int64_t block = at / (n / VL), vector = at % (n / VL);
      const real* from = x + block * f.height * f.width * pixel + g * f.inputs * n + vector * VL;
      const real* slopes = dy + block * f.rows() * f.columns() * pixel_of_outputs + g * f.outputs * n + vector * VL;
      for (int64_t first = 0; first < f.rows(); first += rows) {
        int64_t above = first * f.stride - f.pad();
        in.copy(from, f.height, f.width, pixel, n, above, vectors);
        out.copy(slopes, f.rows(), f.columns(), pixel_of_outputs, n, first, vectors);
        Tile tile{vectors, std::min(rows, f.rows() - first), 0, 0, 0, 0, 0};
        auto add = f.size == 1 ? f.stride == 1 ? add_portion<1, 1> : add_portion<1, 2>
                               : f.stride == 1 ? add_portion<3, 1> : add_portion<3, 2>;
        add(f, in, out, tile, -above, sums.data());
      }
    }
    for (int64_t k = 0; k < kernels; k++) *dw++ = sums[k];
  }
}

// ---- Batch norm ----

enum Kind : int64_t { PLAIN, RELU, ADD_RELU };  // what follows the normalization

struct Norm {  // vectors of channels
  int64_t pixels, channels, images, kind, evaluates;  // whether the running statistics are used, and not those of the batch
  double eps;
  real *mean, *scale;                     // of the batch: written by the forward pass, read by the backward pass
  const real *gamma, *beta;               // these and the rest are filled in from `Tensors`
  real *running_mean, *running_variance;  // updated by the forward pass
  real *dgamma, *dbeta;                   // written by the backward pass
};

// Calls f(first pixel, pixels, channel) for blocks of pixels.
template <class F> INLINE void in_blocks(const Norm& f, F call) {
  int64_t block = std::max<int64_t>(1, BLOCK / f.images);
  for (int64_t p = 0; p < f.pixels; p += block)
    for (int64_t c = 0; c < f.channels; c++) call(p, std::min(block, f.pixels - p), c);
}

// Calls f(offset) for the vectors of a channel in a block of pixels.
template <class F> INLINE void each_of(const Norm& f, int64_t first, int64_t pixels, int64_t c, F call) {
  for (int64_t p = first; p < first + pixels; p++)
    for (int64_t i = 0; i < f.images; i += VL) call((p * f.channels + c) * f.images + i);
}

// Moments of each channel. A block is read twice, but only once from memory.
static std::vector<Moments> moments_of(const Norm& f, const real* x) {
  std::vector<Moments> moments(f.channels, Moments{});
  in_blocks(f, [&](int64_t first, int64_t pixels, int64_t c) {
    real count = pixels * f.images;
    V total{}, squares{};
    each_of(f, first, pixels, c, [&](int64_t at) { total += load(x + at); });
    real mean = sum(total) / count;
    each_of(f, first, pixels, c, [&](int64_t at) {
      V away = load(x + at) - mean;
      squares += away * away;
    });
    merge(moments[c], {count, mean, sum(squares)});
  });
  return moments;
}

INLINE V where_positive(V z, V x) { return (V)((M)x & ~(M)(z <= 0)); }  // also where z is NaN

// Calls f(channel, offset) for each vector of the maps.
template <class F> INLINE void everywhere(const Norm& f, F call) {
  for (int64_t p = 0; p < f.pixels; p++)
    for (int64_t c = 0; c < f.channels; c++)
      for (int64_t i = 0; i < f.images; i += VL) call(c, (p * f.channels + c) * f.images + i);
}

INLINE V normalized(const Norm& f, int64_t c, V x) { return (x - f.mean[c]) * (f.gamma[c] * f.scale[c]) + f.beta[c]; }

static void use_running_statistics(const Norm& f) {
  for (int64_t c = 0; c < f.channels; c++) {
    f.mean[c] = f.running_mean[c];
    f.scale[c] = 1 / std::sqrt(f.running_variance[c] + f.eps);
  }
}

template <Kind KIND> static void forward(const Norm& f, const real* x, const real* added, real* h) {
  if (f.evaluates) use_running_statistics(f);
  else set_statistics(f, moments_of(f, x));
  everywhere(f, [&](int64_t c, int64_t at) {
    V z = normalized(f, c, load(x + at));
    if (KIND == ADD_RELU) z += load(added + at);
    store(h + at, KIND == PLAIN ? z : where_positive(z, z));
  });
}

// `dadded` is the gradient before the ReLU, which only an addition needs.
template <Kind KIND>
static void backward(const Norm& f, const real* x, const real* h, const real* dh, real* dx, real* dadded) {
  auto masked = [&](int64_t c, int64_t at) __attribute__((always_inline)) {
    V d = load(dh + at);
    if (KIND == PLAIN) return d;
    return where_positive(KIND == RELU ? normalized(f, c, load(x + at)) : load(h + at), d);
  };
  std::vector<double> sums(f.channels), along(f.channels);
  in_blocks(f, [&](int64_t first, int64_t pixels, int64_t c) {
    V part{}, part_along{};
    each_of(f, first, pixels, c, [&](int64_t at) {
      V d = masked(c, at);
      if (KIND == ADD_RELU) store(dadded + at, d);
      part += d;
      part_along += d * (load(x + at) - f.mean[c]);
    });
    sums[c] += sum(part), along[c] += sum(part_along);
  });
  std::vector<real> constant(f.channels), linear(f.channels);
  for (int64_t c = 0; c < f.channels; c++) {
    f.dbeta[c] = sums[c], f.dgamma[c] = along[c] * f.scale[c];
    double count = f.pixels * f.images;
    constant[c] = sums[c] / count, linear[c] = along[c] / count * f.scale[c] * f.scale[c];
  }
  everywhere(f, [&](int64_t c, int64_t at) {
    V d = KIND == ADD_RELU ? load(dadded + at) : masked(c, at);
    store(dx + at, (d - constant[c] - (load(x + at) - f.mean[c]) * linear[c]) * (f.gamma[c] * f.scale[c]));
  });
}

// ---- Max-pooling: kernel 3, stride 2, padding 1 ----

struct Pool { int64_t blocks, height, width, numbers; };  // numbers of a pixel

// Calls f(position in the kernel, offset in the input) for what an output pixel sees.
template <class F> INLINE void in_window(const Pool& f, int64_t line, int64_t column, F call) {
  int64_t lines = (f.height + 1) / 2, block = line / lines, row = line % lines;
  for (int64_t k = 0; k < 9; k++) {
    int64_t i = 2 * row + k / 3 - 1, j = 2 * column + k % 3 - 1;
    if (i >= 0 && i < f.height && j >= 0 && j < f.width) call(k, ((block * f.height + i) * f.width + j) * f.numbers);
  }
}

// `seen`: the position in the kernel of the first largest number, or of the last NaN, as torch has it.
static void pool(const Pool& f, const real* x, real* y, MaskOf<real>::type* seen) {
  for (int64_t line = 0; line < f.blocks * ((f.height + 1) / 2); line++)
    for (int64_t column = 0; column < (f.width + 1) / 2; column++)
      for (int64_t at = 0; at < f.numbers; at += VL, y += VL, seen += VL) {
        V best = V{} - INFINITY;
        M where{};
        in_window(f, line, column, [&](int64_t k, int64_t from) {
          V in = load(x + from + at);
          M larger = (M)(in > best) | (M)(in != in);
          best = (V)(((M)in & larger) | ((M)best & ~larger));
          where = (larger & (MaskOf<real>::type)k) | (where & ~larger);
        });
        store(y, best);
        *(M*)seen = where;
      }
}

static void gradient_of_pool(const Pool& f, const real* dy, const MaskOf<real>::type* seen, real* dx) {
  memset(dx, 0, f.blocks * f.height * f.width * f.numbers * sizeof(real));
  for (int64_t line = 0; line < f.blocks * ((f.height + 1) / 2); line++)
    for (int64_t column = 0; column < (f.width + 1) / 2; column++)
      for (int64_t at = 0; at < f.numbers; at += VL, dy += VL, seen += VL) {
        V d = load(dy);
        M where = *(const M*)seen;
        in_window(f, line, column, [&](int64_t k, int64_t from) {
          real* to = dx + from + at;
          store(to, load(to) + (V)((M)d & (M)(where == (MaskOf<real>::type)k)));
        });
      }
}

// ---- Shortcuts without parameters: every `stride`-th pixel, and channels of zeros ----

struct Pad {
  int64_t blocks, images, groups, inputs, outputs;  // images of a block, channels of a group
  int64_t height, width, stride;                    // of the input
};

// Calls f(offset in the input, offset in the output) for the channels that a group has in both.
template <class F> INLINE void in_both(const Pad& f, F call) {
  int64_t rows = (f.height - 1) / f.stride + 1, columns = (f.width - 1) / f.stride + 1;
  for (int64_t line = 0; line < f.blocks * rows; line++)
    for (int64_t column = 0; column < columns; column++) {
      int64_t from = (line / rows * f.height + line % rows * f.stride) * f.width + column * f.stride;
      for (int64_t g = 0; g < f.groups; g++) {
        int64_t input = (from * f.groups + g) * f.inputs, output = ((line * columns + column) * f.groups + g) * f.outputs;
        call(input * f.images, output * f.images);
      }
    }
}

static void pad(const Pad& f, const real* x, real* y) {
  int64_t numbers = f.inputs * f.images, zeros = (f.outputs - f.inputs) * f.images;
  in_both(f, [&](int64_t from, int64_t to) {
    memcpy(y + to, x + from, numbers * sizeof(real));
    memset(y + to + numbers, 0, zeros * sizeof(real));
  });
}

static void gradient_of_pad(const Pad& f, const real* dy, real* dx) {
  int64_t numbers = f.inputs * f.images;
  memset(dx, 0, f.blocks * f.height * f.width * f.groups * numbers * sizeof(real));
  in_both(f, [&](int64_t to, int64_t from) { memcpy(dx + to, dy + from, numbers * sizeof(real)); });
}

// ---- Programs ----

enum Code : int64_t { CONVOLUTION, NORM, MAXIMUM, PAD };

struct Operation {
  int64_t code, adds;         // whether the gradient of x is added to what is there
  int64_t learned, running;   // where its tensors begin in the tables of `Tensors`
  const void* shape;          // Conv, Norm, Pool, or Pad
  const real *x, *added;
  real* y;
  MaskOf<real>::type* seen;
  const real* dy;
  real *dx, *dadded;  // no dx: it is not needed
};

// Tensors that may move from step to step: kernels, or gamma and beta of each norm; its running mean and variance.
struct Tensors { const real* const* learned; real *const *running, *const *gradients; };

static void run(const Operation& o, const Tensors& t) {
  if (o.code == CONVOLUTION) return convolve(*(const Conv*)o.shape, o.x, t.learned[o.learned], o.y);
  if (o.code == MAXIMUM) return pool(*(const Pool*)o.shape, o.x, o.y, o.seen);
  if (o.code == PAD) return pad(*(const Pad*)o.shape, o.x, o.y);
  Norm f = *(const Norm*)o.shape;
  f.gamma = t.learned[o.learned], f.beta = t.learned[o.learned + 1];
  f.running_mean = t.running[o.running], f.running_variance = t.running[o.running + 1];
  if (f.kind == PLAIN) forward<PLAIN>(f, o.x, o.added, o.y);
  else if (f.kind == RELU) forward<RELU>(f, o.x, o.added, o.y);
  else forward<ADD_RELU>(f, o.x, o.added, o.y);
}

static void run_back(const Operation& o, const Tensors& t) {
  if (o.code == CONVOLUTION) {
    const Conv& f = *(const Conv*)o.shape;
    const real* w = t.learned[o.learned];
    if (o.dx && o.adds) gradient_of_inputs<true>(f, o.dy, w, o.dx);
    else if (o.dx) gradient_of_inputs<false>(f, o.dy, w, o.dx);
    gradient_of_kernels(f, o.x, o.dy, t.gradients[o.learned]);
    return;
  }
  if (o.code == MAXIMUM) return gradient_of_pool(*(const Pool*)o.shape, o.dy, o.seen, o.dx);
  if (o.code == PAD) return gradient_of_pad(*(const Pad*)o.shape, o.dy, o.dx);
  Norm f = *(const Norm*)o.shape;
  f.gamma = t.learned[o.learned], f.beta = t.learned[o.learned + 1];
  f.dgamma = t.gradients[o.learned], f.dbeta = t.gradients[o.learned + 1];
  if (f.kind == PLAIN) backward<PLAIN>(f, o.x, o.y, o.dy, o.dx, o.dadded);
  else if (f.kind == RELU) backward<RELU>(f, o.x, o.y, o.dy, o.dx, o.dadded);
  else backward<ADD_RELU>(f, o.x, o.y, o.dy, o.dx, o.dadded);
}

extern "C" {

void lanes_forward(const Operation* operations, int64_t count, const real* const* learned, real* const* running) {
  for (int64_t i = 0; i < count; i++) run(operations[i], {learned, running, nullptr});
}

void lanes_backward(const Operation* operations, int64_t count, const real* const* learned, real* const* gradients) {
  for (int64_t i = count - 1; i >= 0; i--) run_back(operations[i], {learned, nullptr, gradients});
}

}  // extern "C"
