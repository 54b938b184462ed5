// One step of a Llama-like decoder over packed tokens and a paged cache: all layers in one call, in float32 between the matrices.
//
// Every token is worked on by itself: it attends to the first `lengths` tokens of its own block table, and no order of additions
// depends on its neighbours. So a sequence's numbers are the same bits alone and in company.
#pragma once
#include <cmath>

#include "matrix.hpp"
#include "vector.hpp"

struct Layer {
    const Matrix *query, *key, *value, *out, *gate, *up, *down;
    const float *before, *after;                                        // weights of the norms
    const float *query_bias, *key_bias, *value_bias, *out_bias;         // or null
    const float *query_norm, *key_norm;                                 // or null
    int64_t window;                                                     // tokens it sees; 0: all
};

struct Step {
    int64_t tokens;
    float *hidden;                // [tokens, hidden], changed
    const float *cosines, *sines; // [tokens, size]
    const int64_t *slots;         // where a token's key and value go
    const int64_t *lengths;       // how many tokens it sees, itself included
    const int64_t *begins;        // where its block table begins in `tables`
    const int64_t *tables;
    void *const *keys, *const *values; // by layer, [blocks, block, heads, size]
    int64_t block, half;          // tokens in a block; whether the cache is bfloat16
    int64_t kept;
    const int64_t *keep;          // tokens whose logits are wanted
    float *logits;                // [kept, vocabulary]
};

// Sinks: where a product's numbers go.
struct Writer {
    float *to;
    const float *bias;
    void operator()(const Matrix &m, int row, int column, __mmask16 mask, __m512 v) const {
        if (bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, bias + column));
        _mm512_mask_storeu_ps(to + size_t(row) * m.outputs + column, mask, v);
    }
};

struct Adder {
    float *to;
    const float *bias;
    void operator()(const Matrix &m, int row, int column, __mmask16 mask, __m512 v) const {
        if (bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, bias + column));
        float *at = to + size_t(row) * m.outputs + column;
        _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), v));
    }
};

struct Llama {
    int hidden, heads, groups, size, inner;   // groups: query heads for each key head
    float epsilon;
    const float *norm;
    const Matrix *head;                       // weights are in bfloat16 in all matrices or in none
    std::vector<Layer> layers;
    Rows rows;
    Buffer<float> query, key, value, mixed, inside;

    void run(Pool &pool, const Step &step) {
        const int tokens = int(step.tokens), wide = heads * groups * size, narrow = heads * size;
        query.reserve(size_t(tokens) * wide), mixed.reserve(size_t(tokens) * wide);
        key.reserve(size_t(tokens) * narrow), value.reserve(size_t(tokens) * narrow);
        inside.reserve(size_t(tokens) * inner);
        for (size_t i = 0; i < layers.size(); i++) {
            const Layer &layer = layers[i];
            take_normed(pool, step.hidden, tokens, layer.before);
            multiply_three(pool, layer, tokens);
            each(pool, tokens, wide, [&](int t) { place(step, layer, i, t); });
            attend(pool, step, layer, i);
            take(pool, mixed.data, tokens, wide);
            multiply(pool, *layer.out, rows, tokens, Adder{step.hidden, layer.out_bias});
            take_normed(pool, step.hidden, tokens, layer.after);
            multiply_gated(pool, layer, tokens);
            take(pool, inside.data, tokens, inner);
            multiply(pool, *layer.down, rows, tokens, Adder{step.hidden, nullptr});
        }
        predict(pool, step);
    }

  private:
    // Rows one by one, on all threads where there is enough to do.
    template <class Work> void each(Pool &pool, int count, int width, const Work &work) {
        const int parts = size_t(count) * width < 8192 ? 1 : std::min(count, pool.threads() * 4);
        pool.run(parts, [&](int part) {
            for (int r = count * part / parts; r < count * (part + 1) / parts; r++) work(r);
        });
    }

    void take(Pool &pool, const float *from, int count, int width) {
        rows.reserve(count, width, head->exact());
        each(pool, count, width, [&](int r) { rows.take(r, from + size_t(r) * width, width); });
    }

    float inverse_root(const float *x, int count) const {
        __m512 squares = _mm512_setzero_ps();
        for (int i = 0; i < count; i += 16) {
            const __m512 v = _mm512_maskz_loadu_ps(first(count - i), x + i);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        return 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / float(count) + epsilon);
    }

    void take_normed_row(int row, const float *x, const float *weights) {
        const __m512 by = _mm512_set1_ps(inverse_root(x, hidden));
        for (int g = 0; g < rows.groups; g++) {
            __m512 part[2];
            for (int h = 0; h < 2; h++) {
                const int at = g * GROUP + h * 16;
                const __mmask16 mask = first(hidden - at);
                const __m512 normed = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + at), by);
                part[h] = _mm512_mul_ps(normed, _mm512_maskz_loadu_ps(mask, weights + at));
            }
            rows.put(row, g, part[0], part[1]);
        }
    }

    void take_normed(Pool &pool, const float *from, int count, const float *weights) {
        rows.reserve(count, hidden, head->exact());
        each(pool, count, hidden, [&](int r) { take_normed_row(r, from + size_t(r) * hidden, weights); });
    }

    void multiply_three(Pool &pool, const Layer &layer, int tokens) {
        const Matrix *matrices[] = {layer.query, layer.key, layer.value};
        const Writer queries{query.data, layer.query_bias}, keys{key.data, layer.key_bias}, values{value.data, layer.value_bias};
        int panels = 0;
        for (const Matrix *m : matrices) panels += m->panels;
        each_panel(pool, panels, [&](int p) {
            if (p < layer.query->panels) return multiply_panel(*layer.query, p, rows, tokens, queries);
            p -= layer.query->panels;
            if (p < layer.key->panels) return multiply_panel(*layer.key, p, rows, tokens, keys);
            multiply_panel(*layer.value, p - layer.key->panels, rows, tokens, values);
        });
    }

    // A panel of the gate and the same of what it lets through, while both are at hand.
    void multiply_gated(Pool &pool, const Layer &layer, int tokens) {
        each_panel(pool, layer.up->panels, [&](int p) {
            multiply_panel(*layer.up, p, rows, tokens, Writer{inside.data, nullptr});
            multiply_panel(*layer.gate, p, rows, tokens, [&](const Matrix &, int row, int column, __mmask16 mask, __m512 v) {
                float *at = inside.data + size_t(row) * inner + column;
                _mm512_mask_storeu_ps(at, mask, _mm512_mul_ps(silu(v), _mm512_maskz_loadu_ps(mask, at)));
            });
        });
    }

    void rotate(float *x, const float *weights, const float *cosines, const float *sines, float scale) const {
        const __m512 by = _mm512_set1_ps(weights ? inverse_root(x, size) : 1.0f), factor = _mm512_set1_ps(scale);
        for (int i = 0; i < size / 2; i += 16) {
            __m512 low = _mm512_mul_ps(_mm512_loadu_ps(x + i), by), high = _mm512_mul_ps(_mm512_loadu_ps(x + size / 2 + i), by);
            if (weights) {
                low = _mm512_mul_ps(low, _mm512_loadu_ps(weights + i));
                high = _mm512_mul_ps(high, _mm512_loadu_ps(weights + size / 2 + i));
            }
            const __m512 c0 = _mm512_loadu_ps(cosines + i), c1 = _mm512_loadu_ps(cosines + size / 2 + i);
            const __m512 s0 = _mm512_loadu_ps(sines + i), s1 = _mm512_loadu_ps(sines + size / 2 + i);
            _mm512_storeu_ps(x + i, _mm512_mul_ps(factor, _mm512_fnmadd_ps(high, s0, _mm512_mul_ps(low, c0))));
            _mm512_storeu_ps(x + size / 2 + i, _mm512_mul_ps(factor, _mm512_fmadd_ps(low, s1, _mm512_mul_ps(high, c1))));
        }
    }

    // Turn a token's queries and keys by its position, and put key and value into the cache.
    void place(const Step &step, const Layer &layer, size_t index, int t) {
        const float *cosines = step.cosines + size_t(t) * size, *sines = step.sines + size_t(t) * size;
        const int narrow = heads * size;
        for (int h = 0; h < heads * groups; h++) {
            float *at = query.data + (size_t(t) * heads * groups + h) * size;
            rotate(at, layer.query_norm, cosines, sines, 1.0f / std::sqrt(float(size)));
        }
        for (int h = 0; h < heads; h++)
            rotate(key.data + (size_t(t) * heads + h) * size, layer.key_norm, cosines, sines, 1.0f);
        const size_t to = size_t(step.slots[t]) * narrow;
        for (int i = 0; i < narrow; i += 16) {
            store(step.keys[index], to + i, 0xffff, _mm512_loadu_ps(key.data + size_t(t) * narrow + i), step.half);
            store(step.values[index], to + i, 0xffff, _mm512_loadu_ps(value.data + size_t(t) * narrow + i), step.half);
        }
    }

    void attend(Pool &pool, const Step &step, const Layer &layer, size_t index) {
        int64_t work = 0;
        for (int t = 0; t < step.tokens; t++) work += step.lengths[t];
        const int pieces = int(step.tokens) * heads, parts = work * heads * groups < 2048 ? 1 : std::min(pieces, pool.threads() * 8);
        pool.run(parts, [&](int part) {
            static thread_local Buffer<float> scores;
            static thread_local Buffer<size_t> places;
            for (int p = int64_t(pieces) * part / parts, last = -1; p < int64_t(pieces) * (part + 1) / parts; p++) {
                const int t = p / heads;
                const int64_t from = layer.window ? std::max<int64_t>(0, step.lengths[t] - layer.window) : 0;
                const int count = int(step.lengths[t] - from);
                if (t != last) find(step, t, from, count, places.reserve(count));
                last = t;
                scores.reserve(count + 16);
                for (int g = 0; g < groups; g++) mix(step, index, t, p % heads * groups + g, count, places.data, scores.data);
            }
        });
    }

    // Where the tokens that `t` sees stand in the cache.
    void find(const Step &step, int t, int64_t from, int count, size_t *places) const {
        const int64_t *table = step.tables + step.begins[t];
        for (int j = 0; j < count; j++)
            places[j] = (size_t(table[(from + j) / step.block]) * step.block + (from + j) % step.block) * heads * size;
    }

    // One query head of one token: its scores, their softmax, and the mixture of values.
    void mix(const Step &step, size_t index, int t, int own, int count, const size_t *places, float *scores) {
        const size_t whole = (size_t(t) * heads * groups + own) * size, shift = size_t(own / groups) * size;
        const float *q = query.data + whole;
        __m512 most = _mm512_set1_ps(-INFINITY);
        for (int j = 0; j < count; j += 16) {
            __m512 parts[16];
            for (int n = 0; n < 16; n++) {
                parts[n] = _mm512_setzero_ps();
                if (j + n >= count) continue;
                const size_t k = places[j + n] + shift;
                for (int d = 0; d < size; d += 16)
                    parts[n] = _mm512_fmadd_ps(_mm512_loadu_ps(q + d), load(step.keys[index], k + d, 0xffff, step.half), parts[n]);
            }
            const __m512 found = _mm512_mask_blend_ps(first(count - j), _mm512_set1_ps(-INFINITY), sums(parts));
            _mm512_storeu_ps(scores + j, found);
            most = _mm512_max_ps(most, found);
        }
        const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
        __m512 total = _mm512_setzero_ps();
        for (int j = 0; j < count; j += 16) {
            const __mmask16 mask = first(count - j);
            const __m512 weight = _mm512_maskz_mov_ps(mask, exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + j), top)));
            _mm512_storeu_ps(scores + j, weight);
            total = _mm512_add_ps(total, weight);
        }
        const __m512 share = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(total));
        for (int d = 0; d < size; d += 64) {
            __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
            for (int j = 0; j < count; j++) {
                const size_t v = places[j] + shift + d;
                const __m512 weight = _mm512_set1_ps(scores[j]);
                for (int n = 0; n < 4; n++)
                    if (d + n * 16 < size) sum[n] = _mm512_fmadd_ps(weight, load(step.values[index], v + n * 16, 0xffff, step.half), sum[n]);
            }
            for (int n = 0; n < 4; n++)
                if (d + n * 16 < size) _mm512_storeu_ps(mixed.data + whole + d + n * 16, _mm512_mul_ps(sum[n], share));
        }
    }

    void predict(Pool &pool, const Step &step) {
        rows.reserve(int(step.kept), hidden, head->exact());
        each(pool, int(step.kept), hidden, [&](int r) { take_normed_row(r, step.hidden + size_t(step.keep[r]) * hidden, norm); });
        multiply(pool, *head, rows, int(step.kept), Writer{step.logits, nullptr});
    }
};
