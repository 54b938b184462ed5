// What Python calls. Pointers are trusted; nothing here throws.
#include "llama.hpp"

namespace {
thread_local Rows scratch;
thread_local Buffer<float> widened;

void widen(const uint16_t *from, float *to, int count) {
    for (int i = 0; i < count; i += 16) _mm512_mask_storeu_ps(to + i, first(count - i), load(from, i, first(count - i), true));
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
    Rows &taken = scratch;
    taken.reserve(rows, m->inputs, m->exact());
    float *wide = half ? widened.reserve(size_t(rows) * m->inputs) : nullptr;
    const int parts = rows < 8 ? 1 : std::min(rows, pool->threads() * 2);
    pool->run(parts, [&](int part) {
        for (int r = rows * part / parts; r < rows * (part + 1) / parts; r++) {
            const size_t at = size_t(r) * m->inputs;
            if (half) widen(static_cast<const uint16_t *>(x) + at, wide + at, m->inputs);
            taken.take(r, half ? wide + at : static_cast<const float *>(x) + at, m->inputs);
        }
    });
    multiply(*pool, *m, taken, rows, [&](const Matrix &, int row, int column, __mmask16 mask, __m512 value) {
        if (bias) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, bias + column));
        store(y, size_t(row) * m->outputs + column, mask, value, half);
    });
}

// What this machine can do at most, for benchmarks: bytes read from memory, and multiplications in registers.
void limit_read(Pool *pool, const uint8_t *from, int64_t bytes) {
    const int parts = pool->threads() * 8;
    pool->run(parts, [&](int part) {
        __m512i sum[4] = {};
        for (int64_t at = bytes / parts * part / 256 * 256; at + 256 <= bytes / parts * (part + 1); at += 256)
            for (int i = 0; i < 4; i++) sum[i] = _mm512_xor_si512(sum[i], _mm512_loadu_si512(from + at + i * 64));
        volatile int keep = _mm512_reduce_or_epi32(_mm512_or_si512(_mm512_or_si512(sum[0], sum[1]), _mm512_or_si512(sum[2], sum[3])));
        (void)keep;
    });
}

// 64 products each, `count` times 8 in every one of 8 parts a thread.
void limit_multiply(Pool *pool, int64_t count) {
    pool->run(pool->threads() * 8, [&](int part) {
        __m512i sum[8], by = _mm512_set1_epi32(part);
        for (auto &one : sum) one = _mm512_setzero_si512();
        for (int64_t i = 0; i < count; i++)
#pragma GCC unroll 8
            for (int n = 0; n < 8; n++) sum[n] = _mm512_dpbusd_epi32(sum[n], by, by);
        volatile int keep = 0;
        for (auto &one : sum) keep = keep + _mm512_reduce_add_epi32(one);
    });
}

Llama *llama_new(int hidden, int heads, int groups, int size, int inner, float epsilon, const float *norm, const Matrix *head) {
    auto *llama = new Llama;
    llama->hidden = hidden, llama->heads = heads, llama->groups = groups, llama->size = size, llama->inner = inner;
    llama->epsilon = epsilon, llama->norm = norm, llama->head = head;
    return llama;
}
void llama_add(Llama *llama, const Layer *layer) { llama->layers.push_back(*layer); }
void llama_free(Llama *llama) { delete llama; }
void llama_run(Llama *llama, Pool *pool, const Step *step) { llama->run(*pool, *step); }
}
