// The format of numbers, and vectors of them: an extension of GCC and Clang, so no intrinsics are needed.
// Compile with -DREAL=float or double.
#pragma once
#include <cstdint>

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
#define UNROLL _Pragma("GCC unroll 16")

typedef REAL real;
template <class T> struct MaskOf;
template <> struct MaskOf<float> { typedef int32_t type; };
template <> struct MaskOf<double> { typedef int64_t type; };
typedef real V __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef MaskOf<real>::type M __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
constexpr int64_t VL = BYTES / sizeof(real);
