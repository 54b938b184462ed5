// What Python calls. Pointers are trusted; nothing here throws.
#include "matrix.hpp"

namespace {
thread_local Rows scratch;
thread_local Buffer<float> widened;

void widen(const uint16_t *from, float *to, int count) {
    int i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from + i)));
        _mm512_storeu_si512(to + i, _mm512_slli_epi32(wide, 16));
    }
    for (; i < count; i++) {
        const uint32_t bits = uint32_t(from[i]) << 16;
        std::memcpy(to + i, &bits, 4);
    }
}
}   // namespace

extern "C" {

Pool *pool_new(int threads) { return new Pool(threads); }
void pool_free(Pool *pool) { delete pool; }

Matrix *matrix_new(Pool *pool, const float *weights, int outputs, int inputs, int bits) {
    return pack(*pool, weights, outputs, inputs, bits);
}
void matrix_free(Matrix *matrix) { delete matrix; }
int64_t matrix_bytes(const Matrix *matrix) { return matrix->panels * matrix->panel_bytes(); }
void matrix_row(const Matrix *matrix, int row, float *to) { unpack_row(*matrix, row, to); }
double matrix_four_bit_loss(const float *weights, int outputs, int inputs, int samples) {
    return four_bit_loss(weights, outputs, inputs, samples);
}

// y[rows, outputs] = x[rows, inputs] · weightsᵀ + bias; x and y are float32, or bfloat16 where `half` is set.
void linear(Pool *pool, const Matrix *m, const void *x, void *y, int rows, const float *bias, int half) {
    Rows &quantised = scratch;
    quantised.reserve(rows, m->inputs);
    float *wide = half ? widened.reserve(size_t(rows) * m->inputs) : nullptr;
    const int parts = rows < 8 ? 1 : std::min(rows, pool->threads() * 2);
    pool->run(parts, [&](int part) {
        for (int r = rows * part / parts; r < rows * (part + 1) / parts; r++) {
            const size_t at = size_t(r) * m->inputs;
            if (half) widen(static_cast<const uint16_t *>(x) + at, wide + at, m->inputs);
            quantised.take(r, half ? wide + at : static_cast<const float *>(x) + at, m->inputs);
        }
    });
    multiply(*pool, *m, quantised, rows, [&](int row, int column, __mmask16 mask, __m512 value) {
        if (bias) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, bias + column));
        const size_t at = size_t(row) * m->outputs + column;
        if (half)
            _mm256_mask_storeu_epi16(static_cast<uint16_t *>(y) + at, mask, __m256i(_mm512_cvtneps_pbh(value)));
        else
            _mm512_mask_storeu_ps(static_cast<float *>(y) + at, mask, value);
    });
}
}
