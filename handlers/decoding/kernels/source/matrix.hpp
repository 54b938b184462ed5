// Weights in 8 or 4 bits with a scale for every 32 along the input, times activations in 16 bits scaled the same way, row by row;
// or weights in bfloat16 times activations as they are.
//
// A panel is 32 outputs. For each group of 32 inputs it holds the codes (input-major in fours, as vpdpbusd wants them) and then
// the scales (half floats, relative to the matrix's own): one stream from memory. 8 bits are symmetric (Q8_0), 4 bits have a
// minimum (Q4_1), bfloat16 needs no scales. A row's result is the same bits whatever other rows there are: tiling changes no
// order of additions.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "pool.hpp"

constexpr int GROUP = 32, PANEL = 32, TILE = 6;

template <class T> struct Buffer {
    T *data = nullptr;
    size_t size = 0;
    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { std::free(data); }
    T *reserve(size_t wanted) {
        if (wanted > size) {
            std::free(data);
            size = wanted;
            data = static_cast<T *>(std::aligned_alloc(64, (wanted * sizeof(T) + 63) / 64 * 64));
            if (!data) std::abort();
        }
        return data;
    }
};

// Rows of activations: float32 for weights in bfloat16, else 16 bits, since 8 cost far more quality than the weights' own
// rounding. A group's codes are 32 high bytes and then 32 low ones, so that vpdpbusd takes them in two passes. `sums` are scale
// times sum of codes, `starts` cancel the weights' offset of 128.
struct Rows {
    int width = 0, groups = 0;
    bool exact = false;
    Buffer<float> plain;
    Buffer<int8_t> codes;
    Buffer<float> scales, sums;
    Buffer<int32_t> starts;

    void reserve(int rows, int inputs, bool plainly) {
        groups = (inputs + GROUP - 1) / GROUP;
        width = groups * GROUP;
        exact = plainly;
        if (exact) {
            plain.reserve(size_t(rows) * width);
            return;
        }
        codes.reserve(size_t(rows) * width * 2);
        scales.reserve(size_t(rows) * groups);
        sums.reserve(size_t(rows) * groups);
        starts.reserve(size_t(rows) * groups);
    }

    void put(int row, int group, __m512 low, __m512 high) {
        const size_t at = size_t(row) * groups + group;
        if (exact) {
            _mm512_store_ps(plain.data + at * GROUP, low);
            _mm512_store_ps(plain.data + at * GROUP + 16, high);
            return;
        }
        // A maximum passes over what is no number, and its code would be 0: a broken model's answer must not look whole.
        const bool broken = _mm512_cmp_ps_mask(low, high, _CMP_UNORD_Q);
        const float most = broken ? NAN : _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        const __m512 inverse = _mm512_set1_ps(most > 0 ? MOST / most : 0.0f);
        const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)), b = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
        int8_t *to = codes.data + at * GROUP * 2;
        put_bytes(to, a);
        put_bytes(to + 16, b);
        const int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
        scales.data[at] = most / MOST;
        sums.data[at] = scales.data[at] * float(sum);
        starts.data[at] = -128 * sum;
    }

    void take(int row, const float *from, int inputs) {
        for (int g = 0; g < groups; g++) {
            const int left = inputs - g * GROUP;
            const __mmask16 low = left >= 16 ? 0xffff : (1u << left) - 1;
            const __mmask16 high = left >= 32 ? 0xffff : left > 16 ? (1u << (left - 16)) - 1 : 0;
            put(row, g, _mm512_maskz_loadu_ps(low, from + g * GROUP), _mm512_maskz_loadu_ps(high, from + g * GROUP + 16));
        }
    }

  private:
    static constexpr float MOST = 127 * 256 + 127;   // so that both bytes of a code have a sign

    static void put_bytes(int8_t *to, __m512i codes) {
        const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(codes, _mm512_set1_epi32(128)), 8);
        _mm_store_si128(reinterpret_cast<__m128i *>(to), _mm512_cvtepi32_epi8(high));
        _mm_store_si128(reinterpret_cast<__m128i *>(to + GROUP), _mm512_cvtepi32_epi8(_mm512_sub_epi32(codes, _mm512_slli_epi32(high, 8))));
    }
};

inline uint16_t to_half(float value) { return _cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT); }
inline float from_half(uint16_t value) { return _cvtsh_ss(value); }
inline uint16_t to_bfloat(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return uint16_t((bits + (bits >> 16 & 1) + 0x7fff) >> 16);
}
inline float from_bfloat(uint16_t value) {
    const uint32_t bits = uint32_t(value) << 16;
    float wide;
    std::memcpy(&wide, &bits, 4);
    return wide;
}
inline __m512 halves(const uint8_t *at) { return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i *>(at))); }

struct Matrix {
    int outputs, inputs, bits, panels, groups;
    float scale = 1.0f;   // of the stored scales
    Buffer<uint8_t> data;

    int code_bytes() const { return GROUP * PANEL * bits / 8; }
    int group_bytes() const { return code_bytes() + (bits == 4 ? 4 : bits == 8 ? 2 : 0) * PANEL; }
    bool exact() const { return bits == 16; }
    size_t panel_bytes() const { return size_t(groups) * group_bytes(); }
    const uint8_t *group_at(int panel, int group) const { return data.data + panel * panel_bytes() + size_t(group) * group_bytes(); }
};

// ---------------------------------------------------------------- packing

struct Fit {
    float step, least;
    double error, power;   // squared: of the codes, of the weights about their mean
    uint8_t codes[GROUP];
};

// Codes 0 … 15 for a given step, then the least-squares step and minimum for these codes.
inline Fit fit_four(const float *w, float least, float step) {
    Fit fit{};
    double n = GROUP, sq = 0, sqq = 0, sw = 0, sqw = 0, sww = 0;
    for (int i = 0; i < GROUP; i++) {
        const float q = step > 0 ? std::clamp(std::nearbyint((w[i] - least) / step), 0.0f, 15.0f) : 0.0f;
        fit.codes[i] = uint8_t(q);
        sq += q, sqq += double(q) * q, sw += w[i], sqw += double(q) * w[i], sww += double(w[i]) * w[i];
    }
    const double spread = n * sqq - sq * sq;
    fit.step = spread > 0 ? float((n * sqw - sq * sw) / spread) : 0.0f;
    fit.least = float((sw - fit.step * sq) / n);
    for (int i = 0; i < GROUP; i++) {
        const double off = w[i] - (double(fit.step) * fit.codes[i] + fit.least);
        fit.error += off * off;
    }
    fit.power = sww - sw * sw / n;
    return fit;
}

// Groups made from four bits use all 16 codes (Q4_1), or leave some at one end (Q4_0): fewer steps between the extremes are tried.
inline Fit best_four(const float *w, int fewest) {
    const auto ends = std::minmax_element(w, w + GROUP);
    Fit best = fit_four(w, *ends.first, (*ends.second - *ends.first) / 15.0f);
    for (int steps = 14; steps >= fewest && best.error > 1e-4 * best.power; steps--) {
        const Fit fit = fit_four(w, *ends.first, (*ends.second - *ends.first) / float(steps));
        if (fit.error < best.error) best = fit;
    }
    return best;
}

inline void load_group(const float *w, int inputs, int group, float *to) {
    const int left = std::min(GROUP, inputs - group * GROUP);
    std::memcpy(to, w + group * GROUP, left * sizeof(float));
    for (int i = left; i < GROUP; i++) to[i] = w[group * GROUP];   // padding that widens no range; its activations are zero
}

// Where code (output o of the panel, input i of the group) stands.
inline int place8(int o, int i) { return (i / 4 * 2 + o / 16) * 64 + o % 16 * 4 + i % 4; }

// A double word holds outputs o and o + 16.
inline int place16(int o, int i) { return i * 32 + o % 16 * 2 + o / 16; }

inline void pack_group(Matrix &m, uint8_t *at, int o, const float *w, float whole) {
    if (m.exact()) {
        for (int i = 0; i < GROUP; i++) reinterpret_cast<uint16_t *>(at)[place16(o, i)] = to_bfloat(w[i]);
        return;
    }
    auto *scales = reinterpret_cast<uint16_t *>(at + m.code_bytes());
    if (m.bits == 8) {
        float most = 0;
        for (int i = 0; i < GROUP; i++) most = std::max(most, std::fabs(w[i]));
        scales[o] = to_half(most / 127.0f / whole);
        const float step = from_half(scales[o]) * whole;
        for (int i = 0; i < GROUP; i++) {
            const float q = step > 0 ? std::clamp(std::nearbyint(w[i] / step), -127.0f, 127.0f) : 0.0f;
            at[place8(o, i)] = uint8_t(int(q) + 128);
        }
        return;
    }
    const Fit fit = best_four(w, 7);
    scales[o] = to_half(fit.step / whole);
    scales[PANEL + o] = to_half(fit.least / whole);
    for (int i = 0; i < GROUP; i++) {   // a byte holds inputs i and i + 4 of a pair of fours
        const int pair = i / 8 * 4 + i % 4, byte = (pair / 4 * 2 + o / 16) * 64 + o % 16 * 4 + pair % 4;
        at[byte] |= fit.codes[i] << (i % 8 / 4 * 4);
    }
}

inline Matrix *pack(Pool &pool, const float *w, int outputs, int inputs, int bits) {
    auto m = std::make_unique<Matrix>();
    m->outputs = outputs, m->inputs = inputs, m->bits = bits;
    m->panels = (outputs + PANEL - 1) / PANEL, m->groups = (inputs + GROUP - 1) / GROUP;
    const size_t bytes = m->panels * m->panel_bytes();
    std::memset(m->data.reserve(bytes), 0, bytes);
    float most = 0;
    for (size_t i = 0; i < size_t(outputs) * inputs; i++) most = std::max(most, std::fabs(w[i]));
    m->scale = most > 0 && !m->exact() ? most / 32768.0f : 1.0f;   // the stored scales use the half float's whole range
    const int chunks = std::min(m->panels, 64);
    pool.run(chunks, [&](int chunk) {
        float group[GROUP];
        for (int p = m->panels * chunk / chunks; p < m->panels * (chunk + 1) / chunks; p++)
            for (int o = 0; o < std::min(PANEL, outputs - p * PANEL); o++)
                for (int g = 0; g < m->groups; g++) {
                    load_group(w + size_t(p * PANEL + o) * inputs, inputs, g, group);
                    pack_group(*m, const_cast<uint8_t *>(m->group_at(p, g)), o, group, m->scale);
                }
    });
    return m.release();
}

// The largest share of a group's variance that four bits would lose, over evenly spaced groups.
inline double four_bit_loss(const float *w, int outputs, int inputs, int samples) {
    const int groups = inputs / GROUP;
    if (groups == 0) return 1.0;
    const size_t all = size_t(outputs) * groups, stride = std::max<size_t>(1, all / samples);
    double worst = 0;
    for (size_t at = 0; at < all; at += stride) {
        const Fit fit = best_four(w + at / groups * inputs + at % groups * GROUP, 7);
        if (fit.power > 0) worst = std::max(worst, fit.error / fit.power);
    }
    return worst;
}

inline void unpack_row(const Matrix &m, int row, float *to) {
    const int p = row / PANEL, o = row % PANEL;
    for (int i = 0; i < m.inputs; i++) {
        const uint8_t *at = m.group_at(p, i / GROUP);
        const auto *scales = reinterpret_cast<const uint16_t *>(at + m.code_bytes());
        const int in = i % GROUP;
        if (m.exact()) {
            to[i] = from_bfloat(reinterpret_cast<const uint16_t *>(at)[place16(o, in)]);
        } else if (m.bits == 8) {
            to[i] = from_half(scales[o]) * m.scale * float(int(at[place8(o, in)]) - 128);
        } else {
            const int pair = in / 8 * 4 + in % 4, byte = (pair / 4 * 2 + o / 16) * 64 + o % 16 * 4 + pair % 4;
            to[i] = (from_half(scales[o]) * float(at[byte] >> (in % 8 / 4 * 4) & 15) + from_half(scales[PANEL + o])) * m.scale;
        }
    }
}

// ---------------------------------------------------------------- multiplying

// Asks for what the stream from memory brings next. The processor's own guesses are thrown off where several tiles go over a panel:
// without this 8 rows take half as long again.
template <int BYTES> inline void fetch_ahead(const uint8_t *at) {
    constexpr int far = 8192;
#pragma GCC unroll 17
    for (int i = 0; i < BYTES; i += 64) _mm_prefetch(reinterpret_cast<const char *>(at + far + i), _MM_HINT_T0);
}

// Four inputs of R rows times 32 outputs.
template <int R> inline void add_four(__m512i (&dot)[R][2], __m512i w0, __m512i w1, const int8_t *x, int stride) {
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        int32_t four;
        std::memcpy(&four, x + size_t(r) * stride, 4);
        const __m512i a = _mm512_set1_epi32(four);
        dot[r][0] = _mm512_dpbusd_epi32(dot[r][0], w0, a);
        dot[r][1] = _mm512_dpbusd_epi32(dot[r][1], w1, a);
    }
}

// From the high bytes' sums to where the low bytes' are added; `starts`, where there are any, are added here.
template <int R> inline void shift(__m512i (&dot)[R][2], const int32_t *starts, int stride) {
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
        for (int half = 0; half < 2; half++) {
            dot[r][half] = _mm512_slli_epi32(dot[r][half], 8);
            if (starts) dot[r][half] = _mm512_add_epi32(dot[r][half], _mm512_set1_epi32(starts[size_t(r) * stride]));
        }
}

// R rows times one panel: acc[r][half] in units of the matrix's scale. Both bytes of the activations' codes come to the same
// whole number, high ones first, so that no more registers are needed than for one.
template <int R> inline void multiply8(const Matrix &m, int panel, const Rows &rows, int first, __m512 (&acc)[R][2]) {
    const uint8_t *w = m.group_at(panel, 0);
    const int8_t *x = rows.codes.data + size_t(first) * rows.width * 2;
    const float *scales = rows.scales.data + size_t(first) * rows.groups;
    const int32_t *starts = rows.starts.data + size_t(first) * rows.groups;
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    for (int g = 0; g < m.groups; g++, w += GROUP * PANEL + 2 * PANEL) {
        __m512i dot[R][2];
        for (int r = 0; r < R; r++) dot[r][0] = dot[r][1] = _mm512_setzero_si512();
        fetch_ahead<GROUP * PANEL + 2 * PANEL>(w);
#pragma GCC unroll 2
        for (int pass = 0; pass < 2; pass++) {
            if (pass) shift<R>(dot, starts + g, rows.groups);
#pragma GCC unroll 8
            for (int c = 0; c < GROUP / 4; c++)
                add_four<R>(dot, _mm512_load_si512(w + c * 128), _mm512_load_si512(w + c * 128 + 64),
                            x + g * GROUP * 2 + pass * GROUP + c * 4, rows.width * 2);
        }
        const __m512 s0 = halves(w + GROUP * PANEL), s1 = halves(w + GROUP * PANEL + PANEL);
        for (int r = 0; r < R; r++) {
            const __m512 s = _mm512_set1_ps(scales[r * rows.groups + g]);
            acc[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][0]), _mm512_mul_ps(s0, s), acc[r][0]);
            acc[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][1]), _mm512_mul_ps(s1, s), acc[r][1]);
        }
    }
}

template <int R> inline void multiply4(const Matrix &m, int panel, const Rows &rows, int first, __m512 (&acc)[R][2]) {
    const uint8_t *w = m.group_at(panel, 0);
    const int8_t *x = rows.codes.data + size_t(first) * rows.width * 2;
    const float *scales = rows.scales.data + size_t(first) * rows.groups;
    const float *sums = rows.sums.data + size_t(first) * rows.groups;
    const __m512i nibble = _mm512_set1_epi8(15);
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    for (int g = 0; g < m.groups; g++, w += GROUP * PANEL / 2 + 4 * PANEL) {
        __m512i dot[R][2];
        for (int r = 0; r < R; r++) dot[r][0] = dot[r][1] = _mm512_setzero_si512();
        fetch_ahead<GROUP * PANEL / 2 + 4 * PANEL>(w);
#pragma GCC unroll 2
        for (int pass = 0; pass < 2; pass++) {
            if (pass) shift<R>(dot, nullptr, 0);
#pragma GCC unroll 4
            for (int c = 0; c < GROUP / 8; c++) {
                const __m512i b0 = _mm512_load_si512(w + c * 128), b1 = _mm512_load_si512(w + c * 128 + 64);
                const int8_t *at = x + g * GROUP * 2 + pass * GROUP + c * 8;
                add_four<R>(dot, _mm512_and_si512(b0, nibble), _mm512_and_si512(b1, nibble), at, rows.width * 2);
                add_four<R>(dot, _mm512_and_si512(_mm512_srli_epi16(b0, 4), nibble),
                            _mm512_and_si512(_mm512_srli_epi16(b1, 4), nibble), at + 4, rows.width * 2);
            }
        }
        const uint8_t *tail = w + GROUP * PANEL / 2;
        const __m512 s0 = halves(tail), s1 = halves(tail + PANEL), m0 = halves(tail + 2 * PANEL), m1 = halves(tail + 3 * PANEL);
        for (int r = 0; r < R; r++) {
            const __m512 s = _mm512_set1_ps(scales[r * rows.groups + g]), t = _mm512_set1_ps(sums[r * rows.groups + g]);
            acc[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][0]), _mm512_mul_ps(s0, s), acc[r][0]);
            acc[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][1]), _mm512_mul_ps(s1, s), acc[r][1]);
            acc[r][0] = _mm512_fmadd_ps(m0, t, acc[r][0]);
            acc[r][1] = _mm512_fmadd_ps(m1, t, acc[r][1]);
        }
    }
}

// bfloat16 is the upper half of float32: widening is exact, and so are the activations.
template <int R> inline void multiply16(const Matrix &m, int panel, const Rows &rows, int first, __m512 (&acc)[R][2]) {
    const uint8_t *w = m.group_at(panel, 0);
    const float *x = rows.plain.data + size_t(first) * rows.width;
    const __m512i upper = _mm512_set1_epi32(int(0xffff0000));
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int i = 0; i < rows.width; i++, w += PANEL * 2) {
        fetch_ahead<PANEL * 2>(w);
        const __m512i both = _mm512_load_si512(w);
        const __m512 w0 = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), w1 = _mm512_castsi512_ps(_mm512_and_si512(both, upper));
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            const __m512 a = _mm512_set1_ps(x[size_t(r) * rows.width + i]);
            acc[r][0] = _mm512_fmadd_ps(w0, a, acc[r][0]);
            acc[r][1] = _mm512_fmadd_ps(w1, a, acc[r][1]);
        }
    }
}

template <int R> inline void multiply_rows(const Matrix &m, int panel, const Rows &rows, int first, __m512 (&acc)[R][2]) {
    if (m.bits == 8) return multiply8<R>(m, panel, rows, first, acc);
    if (m.bits == 4) return multiply4<R>(m, panel, rows, first, acc);
    multiply16<R>(m, panel, rows, first, acc);
}

// What becomes of a result: 16 outputs of a row from `column` on, of which `mask` exist.
template <int R, class Sink> inline void tile(const Matrix &m, int panel, const Rows &rows, int first, const Sink &sink) {
    __m512 acc[R][2];
    multiply_rows<R>(m, panel, rows, first, acc);
    const __m512 scale = _mm512_set1_ps(m.scale);
    for (int half = 0; half < 2; half++) {
        const int column = panel * PANEL + half * 16, left = m.outputs - column;
        if (left <= 0) return;
        const __mmask16 mask = left >= 16 ? 0xffff : (1u << left) - 1;
        for (int r = 0; r < R; r++) sink(m, first + r, column, mask, _mm512_mul_ps(acc[r][half], scale));
    }
}

template <class Sink> inline void multiply_panel(const Matrix &m, int panel, const Rows &rows, int count, const Sink &sink) {
    const int blocks = (count + TILE - 1) / TILE;
    for (int b = 0; b < blocks; b++) {
        const int from = int64_t(count) * b / blocks;
        switch (int64_t(count) * (b + 1) / blocks - from) {
        case 1: tile<1>(m, panel, rows, from, sink); break;
        case 2: tile<2>(m, panel, rows, from, sink); break;
        case 3: tile<3>(m, panel, rows, from, sink); break;
        case 4: tile<4>(m, panel, rows, from, sink); break;
        case 5: tile<5>(m, panel, rows, from, sink); break;
        default: tile<6>(m, panel, rows, from, sink);
        }
    }
}

template <class Work> void each_panel(Pool &pool, int panels, const Work &work) {
    const int chunks = std::min(panels, pool.threads() * 6);
    pool.run(chunks, [&](int chunk) {
        for (int p = panels * chunk / chunks; p < panels * (chunk + 1) / chunks; p++) work(p);
    });
}

template <class Sink> void multiply(Pool &pool, const Matrix &m, const Rows &rows, int count, const Sink &sink) {
    each_panel(pool, m.panels, [&](int panel) { multiply_panel(m, panel, rows, count, sink); });
}
