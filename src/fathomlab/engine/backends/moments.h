// Moments of numbers in double precision, from those of their blocks.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "vectors.h"

constexpr double MOMENTUM = 0.1;  // of running statistics

struct Moments { double count, mean, squares; };  // squares: sum of squared differences from the mean

INLINE void merge(Moments& a, const Moments& b) {  // Chan, Golub & LeVeque (1979)
  double count = a.count + b.count, delta = b.mean - a.mean;
  if (count == 0) return;
  a = {count, a.mean + delta * (b.count / count), a.squares + b.squares + delta * delta * (a.count * b.count / count)};
}

// Writes mean and scale of the batch, and updates the running statistics.
template <class Norm> INLINE void set_statistics(const Norm& f, const std::vector<Moments>& moments) {
  for (int64_t c = 0; c < f.channels; c++) {
    const Moments& m = moments[c];
    f.mean[c] = m.mean;
    f.scale[c] = 1 / std::sqrt(m.squares / m.count + f.eps);
    f.running_mean[c] += MOMENTUM * (m.mean - f.running_mean[c]);
    f.running_variance[c] += MOMENTUM * (m.squares / std::max(m.count - 1, 1.0) - f.running_variance[c]);
  }
}
