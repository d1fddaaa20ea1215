// Batch normalization of maps in training on a CPU, with the addition and the ReLU that may follow it, and its gradients.
//
// Maps are stored with channels last: a matrix with a row per pixel. As many rows as give whole vectors are one line, so that
// narrow maps need no special code: a line has several places per channel, which are combined at the end. Lines are read in
// blocks that stay in the L1 cache. Sums inside a block are in the format of the maps, those over blocks in double.
// Compile with -DREAL=float or double, the format of everything but maps in bf16.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#ifndef REAL
#define REAL float
#endif
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

typedef REAL real;
typedef std::vector<double> Doubles;
template <class T> struct MaskOf;
template <> struct MaskOf<float> { typedef int32_t type; };
template <> struct MaskOf<double> { typedef int64_t type; };
typedef real V __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef MaskOf<real>::type M __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
constexpr int64_t VL = BYTES / sizeof(real);
constexpr int64_t GROUP = 4;               // vectors whose sums are computed together: an addition takes several cycles
constexpr int64_t SPAN = GROUP * VL;
constexpr int64_t BLOCK = 16384;           // bytes
constexpr int64_t SHORTEST = 8;            // lines of a block
constexpr double MOMENTUM = 0.1;           // of running statistics

// ---- Numbers and vectors: N is V or real. As an argument of a template, V loses its attributes, so pointers need its name ----

template <class N> INLINE N load(const real* p) {
  if constexpr (sizeof(N) == sizeof(V)) return *(const V*)p;
  else return *p;
}
INLINE void store(real* p, V v) { *(V*)p = v; }
INLINE void store(real* p, real v) { *p = v; }
// x where z is positive or NaN, else 0: a loss that is not finite stays so.
INLINE V where_positive(V z, V x) { return (V)((M)x & ~(M)(z <= 0)); }
INLINE real where_positive(real z, real x) { return z <= 0 ? 0 : x; }

struct bf16 { uint16_t bits; };
typedef uint16_t Halves __attribute__((vector_size(VL * 2), aligned(2), may_alias));
typedef uint32_t Words __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef float Floats __attribute__((vector_size(VL * 4), aligned(4), may_alias));
INLINE uint32_t word_of(float x) { uint32_t w; memcpy(&w, &x, 4); return w; }
INLINE float float_of(uint32_t w) { float x; memcpy(&x, &w, 4); return x; }

template <class N> INLINE N load(const bf16* p) {
  if constexpr (sizeof(N) == sizeof(V)) return __builtin_convertvector((Floats)(__builtin_convertvector(*(const Halves*)p, Words) << 16), V);
  else return float_of((uint32_t)p->bits << 16);
}
// To the nearest number, ties to even; NaN stays NaN.
INLINE void store(bf16* p, V v) {
  Floats x = __builtin_convertvector(v, Floats);
  Words w = (Words)x, number = (Words)(x == x);
  w = (w + 0x7fff + ((w >> 16) & 1)) >> 16;
  *(Halves*)p = __builtin_convertvector((w & number) | (0x7fc0 & ~number), Halves);
}
INLINE void store(bf16* p, real v) {
  float x = v;
  uint32_t w = word_of(x);
  p->bits = x == x ? (w + 0x7fff + ((w >> 16) & 1)) >> 16 : 0x7fc0;
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

// Calls f(line, lines, place) for each group of places in each block of lines.
template <class F> INLINE void in_blocks(const Lines& s, F f) {
  for (int64_t line = 0; line < s.count; line += s.block)
    for (int64_t place = 0; place < s.width; place += SPAN) f(line, std::min(s.block, s.count - line), place);
}

// Calls f(V, offset, place) for each vector of the complete lines, and f(real, offset, place) for each number after them.
template <class F> INLINE void everywhere(const Lines& s, F f) {
  for (int64_t line = 0; line < s.count; line++)
    for (int64_t place = 0; place < s.width; place += VL) f(V{}, line * s.width + place, place);
  for (int64_t place = 0; place < s.rest; place++) f(real{}, s.count * s.width + place, place);
}

// Repeats a value per channel for the places of a line.
template <class F> static std::vector<real> by_place(const Lines& s, F value) {
  std::vector<real> line(s.width);
  for (int64_t place = 0; place < s.width; place++) line[place] = value(place % s.channels);
  return line;
}

// ---- Statistics ----

struct Moments { double count, mean, squares; };  // squares: sum of squared differences from the mean

INLINE void merge(Moments& a, const Moments& b) {  // Chan, Golub & LeVeque (1979)
  double count = a.count + b.count, delta = b.mean - a.mean;
  if (count == 0) return;
  a = {count, a.mean + delta * (b.count / count), a.squares + b.squares + delta * delta * (a.count * b.count / count)};
}

// Moments of each channel. A block is read twice, but only once from memory.
template <class T> static std::vector<Moments> moments_of(const Lines& s, const T* x) {
  Doubles mean(s.width), squares(s.width);
  in_blocks(s, [&](int64_t line, int64_t lines, int64_t place) {
    const T* first = x + line * s.width + place;
    V center[GROUP] = {}, square[GROUP] = {};
    for (int64_t i = 0; i < lines; i++) UNROLL for (int u = 0; u < GROUP; u++) center[u] += load<V>(first + i * s.width + u * VL);
    UNROLL for (int u = 0; u < GROUP; u++) center[u] /= (real)lines;
    for (int64_t i = 0; i < lines; i++)
      UNROLL for (int u = 0; u < GROUP; u++) { V d = load<V>(first + i * s.width + u * VL) - center[u]; square[u] += d * d; }
    double share = (double)lines / (line + lines), weight = line * share;
    const real *centers = (const real*)center, *sums = (const real*)square;
    for (int64_t l = 0; l < SPAN; l++) {  // as `merge`
      double delta = centers[l] - mean[place + l];
      mean[place + l] += delta * share;
      squares[place + l] += sums[l] + delta * delta * weight;
    }
  });
  std::vector<Moments> channels(s.channels, Moments{});
  for (int64_t place = 0; place < s.width; place++) {
    Moments& channel = channels[place % s.channels];
    merge(channel, {(double)s.count, mean[place], squares[place]});
    if (place < s.rest) merge(channel, {1, (double)load<real>(x + s.count * s.width + place), 0});
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
struct Places { std::vector<real> mean, slope, beta; };

static Places places_of(const Lines& s, const Norm& f) {
  return {by_place(s, [&](int64_t c) { return f.mean[c]; }), by_place(s, [&](int64_t c) { return f.gamma[c] * f.scale[c]; }),
          by_place(s, [&](int64_t c) { return f.beta[c]; })};
}

template <class N> INLINE N normalized(const Places& f, N x, int64_t place) {
  return (x - load<N>(&f.mean[place])) * load<N>(&f.slope[place]) + load<N>(&f.beta[place]);
}

template <Kind KIND, class T> static void forward(const Norm& f, const T* x, const T* added, T* h) {
  Lines s = lines_of(f.rows, f.channels);
  std::vector<Moments> moments = moments_of(s, x);
  for (int64_t c = 0; c < f.channels; c++) {
    const Moments& m = moments[c];
    f.mean[c] = m.mean;
    f.scale[c] = 1 / std::sqrt(m.squares / m.count + f.eps);
    f.running_mean[c] += MOMENTUM * (m.mean - f.running_mean[c]);
    f.running_variance[c] += MOMENTUM * (m.squares / std::max(m.count - 1, 1.0) - f.running_variance[c]);
  }
  Places places = places_of(s, f);
  everywhere(s, [&](auto number, int64_t at, int64_t place) {
    typedef decltype(number) N;
    N z = normalized(places, load<N>(x + at), place);
    if (KIND == ADD_RELU) z += load<N>(added + at);
    store(h + at, KIND == PLAIN ? z : where_positive(z, z));
  });
}

// The gradient before the ReLU, from that of h.
template <Kind KIND, class N, class T>
INLINE N masked(const Places& f, const T* x, const T* h, const T* dh, int64_t at, int64_t place) {
  N d = load<N>(dh + at);
  if (KIND == RELU) return where_positive(normalized(f, load<N>(x + at), place), d);
  return KIND == ADD_RELU ? where_positive(load<N>(h + at), d) : d;
}

// `dadded` becomes the gradient before the ReLU.
template <Kind KIND, class T>
static void backward(const Norm& f, const T* x, const T* h, const T* dh, T* dx, T* dadded) {
  Lines s = lines_of(f.rows, f.channels);
  Places places = places_of(s, f);
  Doubles sum(f.channels), along(f.channels), line_sum(s.width), line_along(s.width);
  in_blocks(s, [&](int64_t line, int64_t lines, int64_t place) {
    V part[GROUP] = {}, part_along[GROUP] = {};
    for (int64_t i = 0; i < lines; i++)
      UNROLL for (int u = 0; u < GROUP; u++) {
        int64_t here = place + u * VL, at = (line + i) * s.width + here;
        V d = masked<KIND, V>(places, x, h, dh, at, here);
        if (KIND == ADD_RELU) store(dadded + at, d);
        part[u] += d;
        part_along[u] += d * (load<V>(x + at) - load<V>(&places.mean[here]));
      }
    const real *sums = (const real*)part, *alongs = (const real*)part_along;
    for (int64_t l = 0; l < SPAN; l++) line_sum[place + l] += sums[l], line_along[place + l] += alongs[l];
  });
  for (int64_t place = 0; place < s.rest; place++) {
    int64_t at = s.count * s.width + place;
    real d = masked<KIND, real>(places, x, h, dh, at, place);
    if (KIND == ADD_RELU) store(dadded + at, d);
    line_sum[place] += d;
    line_along[place] += d * (load<real>(x + at) - places.mean[place]);
  }
  for (int64_t place = 0; place < s.width; place++) {
    sum[place % s.channels] += line_sum[place];
    along[place % s.channels] += line_along[place];
  }
  for (int64_t c = 0; c < f.channels; c++) f.dbeta[c] = sum[c], f.dgamma[c] = along[c] * f.scale[c];
  std::vector<real> constant = by_place(s, [&](int64_t c) { return sum[c] / f.rows; });
  std::vector<real> linear = by_place(s, [&](int64_t c) { return along[c] / f.rows * f.scale[c] * f.scale[c]; });
  everywhere(s, [&](auto number, int64_t at, int64_t place) {
    typedef decltype(number) N;
    N d = KIND == ADD_RELU ? load<N>(dadded + at) : masked<KIND, N>(places, x, h, dh, at, place);
    N away = load<N>(x + at) - load<N>(&places.mean[place]);
    store(dx + at, load<N>(&places.slope[place]) * (d - load<N>(&constant[place]) - away * load<N>(&linear[place])));
  });
}

template <class T> static void forward_any(const Norm& f, const void* x, const void* added, void* h) {
  if (f.kind == PLAIN) forward<PLAIN>(f, (const T*)x, (const T*)added, (T*)h);
  else if (f.kind == RELU) forward<RELU>(f, (const T*)x, (const T*)added, (T*)h);
  else forward<ADD_RELU>(f, (const T*)x, (const T*)added, (T*)h);
}

template <class T> static void backward_any(const Norm& f, const void* x, const void* h, const void* dh, void* dx, void* dadded) {
  if (f.kind == PLAIN) backward<PLAIN>(f, (const T*)x, (const T*)h, (const T*)dh, (T*)dx, (T*)dadded);
  else if (f.kind == RELU) backward<RELU>(f, (const T*)x, (const T*)h, (const T*)dh, (T*)dx, (T*)dadded);
  else backward<ADD_RELU>(f, (const T*)x, (const T*)h, (const T*)dh, (T*)dx, (T*)dadded);
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

}  // extern "C"
