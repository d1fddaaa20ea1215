// Moments of numbers in double precision, from those of their blocks.
#pragma once
#include "vectors.h"

constexpr double MOMENTUM = 0.1;  // of running statistics

struct Moments { double count, mean, squares; };  // squares: sum of squared differences from the mean

INLINE void merge(Moments& a, const Moments& b) {  // Chan, Golub & LeVeque (1979)
  double count = a.count + b.count, delta = b.mean - a.mean;
  if (count == 0) return;
  a = {count, a.mean + delta * (b.count / count), a.squares + b.squares + delta * delta * (a.count * b.count / count)};
}
