// A saturating register in the style of high-level synthesis: a C++ class whose every addition stores a value of W bits, and
// the textbook loop over it. A stand-in for ac_fixed and ap_fixed, written for this benchmark: those compute in the same
// order but carry more of their type through every operation.
#include <cstdint>

template <int W> class Saturating {
    int64_t value = 0;

  public:
    static constexpr int64_t high = (int64_t(1) << (W - 1)) - 1;
    static constexpr int64_t low = -high - 1;

    Saturating &operator+=(int64_t term) {
        value += term;
        if (value > high)
            value = high;
        else if (value < low)
            value = low;
        return *this;
    }
    operator int64_t() const { return value; }
};

template <int W, int DROP>
static void product(const int8_t *x, const int8_t *w, int32_t *out, int rows, int terms, int outputs) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < outputs; j++) {
            Saturating<W> total;
            for (int k = 0; k < terms; k++) {
                int64_t term = int64_t(x[i * terms + k]) * w[j * terms + k];
                if (DROP)
                    term = (term + ((1 << DROP) >> 1)) >> DROP; // half up
                total += term;
            }
            out[i * outputs + j] = int32_t(total);
        }
}

extern "C" void saturating_product(
    const int8_t *x, const int8_t *w, int32_t *out, int rows, int terms, int outputs) {
    product<BITS, DROPPED>(x, w, out, rows, terms, outputs);
}
