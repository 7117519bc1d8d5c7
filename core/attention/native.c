/* Attention of float32 on a CPU with a bias that learns: forward, and a backward pass that computes scores again.

   One sample and head at a time, some queries against all of its keys at once: a tile of scores stays in the caches near
   a core, and since its rows are whole, softmax needs no running maximum and the backward pass neither the result nor a
   log-sum-exp, only each row's maximum and the inverse of its sum (after Dao et al. 2022, arXiv:2205.14135).

   Every sum runs in an order that shapes alone decide, so that results have the same bits for any number of threads.
   Compiled without -ffast-math: -inf takes a key away and must stay what it is.

   N queries, M keys, D features, V rows of a table; a size rounded up to whole vectors ends in w: Mw, Dw. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#ifdef __AVX512F__
#define W 16
#else
#define W 8 /* two registers where they are of four numbers */
#endif

typedef float vec __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * W), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define EACH(i, n) for (int64_t i = 0; i < (n); i++)

enum { NO_BIAS, DENSE, TABLE };
enum { TILE = 4096 };     /* scores */
enum { TOGETHER = 8192 }; /* numbers of heads that are copied together */
enum { LANES = 4 };       /* sums of one id that run beside each other: neighbours often share an id */

/* Numbers apart from one sample, head and row to the next; 0 where an axis is shared. Features are adjacent. */
typedef struct {
    float *data;
    int64_t sample, head, row;
} Rows;

/* native.py fills in the same. */
typedef struct {
    int64_t n_parts, n_batch, n_heads, n_groups, n_q, n_kv, n_dims;
    const int64_t *ends_q, *ends_kv; /* [B + 1] of packed samples, whose stride from sample to sample is 0; or NULL */
    float scale;
    Rows q, k, v, out, stats; /* stats: a row's maximum and the inverse of its sum, two numbers a row */
    Rows d_out, dq, dk, dv;
    const uint8_t *valid; /* [B, M], 0 where a key isn't real; or NULL */
    int64_t kind;         /* of the bias */
    Rows bias, d_bias;    /* DENSE: as it broadcasts; TABLE: [H or 1, V] by heads; d_bias.data may be NULL */
    int64_t d_part;       /* d_bias: from one part of the samples to the next, where it is shared by samples */
    int64_t add;          /* whether several pairs meet in one number of d_bias, which then starts as zeros */
    const void *ids;      /* [B or 1, N, M] rows of the table */
    int64_t ids_sample, ids_row, ids_bytes, n_rows;
} Call;

/* What a thread works in; see `allocate`. */
typedef struct {
    float *k_turned, *v_turned, *p, *ds, *q, *d_out, *k, *v, *mixed, *dk, *dv, *hidden, *bias, *bins; /* mixed: out or dq */
    int32_t *ids;
    int64_t tile, groups;  /* queries; key heads that are copied together */
    int64_t ids_b, ids_at; /* of what sample, and from what query, `ids` are */
} Room;

/* A sample: its number, where its rows start in a packed batch, and its sizes. */
typedef struct {
    int64_t b, first_q, first_kv, n, m, mw;
} Sample;

INLINE int64_t whole(int64_t n) { return (n + W - 1) / W * W; }
INLINE vec all(float x) { return x - (vec){0}; }
INLINE vec load(const float *x) { return *(const vec *)x; }
INLINE void store(float *x, vec y) { *(vec *)x = y; }

INLINE float larger(float a, float b) { return a > b ? a : b; } /* b beside NaN */

/* The sum and the largest of a vector's numbers, by halves. */
INLINE float total(vec x) {
    UNROLL for (int half = W / 2; half; half /= 2)
        UNROLL EACH(i, half) x[i] += x[i + half];
    return x[0];
}

INLINE float largest(vec x) {
    UNROLL for (int half = W / 2; half; half /= 2)
        UNROLL EACH(i, half) x[i] = larger(x[i], x[i + half]);
    return x[0];
}

/* e^x for x <= 0 within 1e-7 of it, and 0 below -86, where results stop being normal numbers. NaN stays. */
INLINE vec exponential(vec x) {
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the lowest bits */
    vec shifted = x * 1.44269504f + shift;
    vec n = shifted - shift;
    vec r = x - n * 0.693359375f; /* the logarithm of 2 in two parts, the first of few bits */
    r = r + n * 2.12194440e-4f;
    vec y = all(1.0f / 720);
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    ivec bits = (ivec)y + ((ivec)shifted << 23);
    return (vec)(bits & ~(x < -86.0f));
}

/* Products of small matrices ---------------------------------------------------------------------------------------- */

/* c = a b (+ c where `add`) of so many rows and vectors, which the compiler knows and keeps in registers. */
INLINE void product_block(const int rows, const int vecs, const int turned, int64_t depth, const float *a,
                          int64_t a_step, const float *b, int64_t b_step, float *c, int64_t c_step, int add) {
    vec sum[6][3];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vecs; j++)
            sum[i][j] = add ? load(c + i * c_step + j * W) : all(0);
    EACH(k, depth) {
        vec at[3];
        UNROLL for (int j = 0; j < vecs; j++) at[j] = load(b + k * b_step + j * W);
        UNROLL for (int i = 0; i < rows; i++) {
            vec x = all(turned ? a[k * a_step + i] : a[i * a_step + k]);
            UNROLL for (int j = 0; j < vecs; j++) sum[i][j] += x * at[j];
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vecs; j++) store(c + i * c_step + j * W, sum[i][j]);
}

#define BLOCK(r, v) \
    case 4 * (r) + (v): \
        product_block(r, v, turned, depth, a_at, a_step, b + j * W, b_step, c_at, c_step, add); \
        break;
#define BLOCKS(r) BLOCK(r, 1) BLOCK(r, 2) BLOCK(r, 3)

/* [rows, cols] a b: a is [rows, depth], or [depth, rows] where `turned`; cols are whole vectors. Blocks of 4 rows by 3
   vectors and 6 by 2 fill the registers. */
INLINE void product_of(const int turned, int64_t rows, int64_t cols, int64_t depth, const float *a, int64_t a_step,
                       const float *b, int64_t b_step, float *c, int64_t c_step, int add) {
    int64_t n_vecs = cols / W, vecs;
    for (int64_t j = 0; j < n_vecs; j += vecs) {
        int64_t left = n_vecs - j, most;
        vecs = left == 1 ? 1 : left % 2 ? 3 : 2;
        most = vecs == 3 ? 4 : 6;
        for (int64_t i = 0, r; i < rows; i += r) {
            const float *a_at = a + (turned ? i : i * a_step);
            float *c_at = c + i * c_step + j * W;
            r = rows - i < most ? rows - i : most;
            switch (4 * r + vecs) { BLOCKS(1) BLOCKS(2) BLOCKS(3) BLOCKS(4) BLOCK(5, 1) BLOCK(5, 2) BLOCK(6, 1) BLOCK(6, 2) }
        }
    }
}

static void product(int64_t rows, int64_t cols, int64_t depth, const float *a, int64_t a_step, const float *b,
                    int64_t b_step, float *c, int64_t c_step) {
    product_of(0, rows, cols, depth, a, a_step, b, b_step, c, c_step, 0);
}

static void product_turned(int64_t rows, int64_t cols, int64_t depth, const float *a, int64_t a_step, const float *b,
                           int64_t b_step, float *c, int64_t c_step, int add) {
    product_of(1, rows, cols, depth, a, a_step, b, b_step, c, c_step, add);
}

/* Tiles ------------------------------------------------------------------------------------------------------------- */

/* [D, Mw] from [M, D], 0 behind the last key. */
static void turn(const float *x, int64_t step, int64_t m, int64_t n_dims, float *turned) {
    int64_t mw = whole(m);
    if (m % W) EACH(d, n_dims) store(turned + d * mw + mw - W, all(0));
    if (m < W) EACH(d, n_dims) EACH(j, m) turned[d * mw + j] = x[j * step + d];
    for (int64_t j = 0; m >= W && j < m; j += W) {
        int64_t at = j + W <= m ? j : m - W; /* the last block shares keys with the one before */
        EACH(d, n_dims) {
            vec y;
            UNROLL EACH(i, W) y[i] = x[(at + i) * step + d];
            store(turned + d * mw + at, y);
        }
    }
}

/* x = x times a number. */
INLINE void scale(float *x, float factor, int64_t dw) {
    for (int64_t d = 0; d < dw; d += W) store(x + d, load(x + d) * factor);
}

/* Rows are too short to call memcpy for. */
INLINE void copy_row(float *y, const float *x, int64_t n_dims) {
    int64_t d = 0;
    for (; d + W <= n_dims; d += W) store(y + d, load(x + d));
    for (; d < n_dims; d++) y[d] = x[d];
}

INLINE float *row_at(Rows x, const Sample *s, int64_t h, int64_t first, int64_t i) {
    return x.data + s->b * x.sample + h * x.head + (first + i) * x.row;
}

/* Whether products can read and write rows where they are: whole vectors, side by side. Where heads lie inside rows, a
   head's rows are on a page each and in a few sets of the nearest cache; then some heads are copied together. */
INLINE int in_place(Rows x, int64_t n_dims) { return x.row == n_dims && x.row % W == 0; }

/* Rows of so many heads from `h` on, copied to `place` unless they can stay (or only room for them, unless `read`).
   They are found as the ones they stand for. */
static Rows brought(Rows x, const Sample *s, int64_t h, int64_t heads, int64_t first, int64_t n, int64_t n_dims,
                    float *place, int read) {
    int64_t dw = whole(n_dims);
    if (in_place(x, n_dims)) return x;
    if (read)
        EACH(i, n) EACH(j, heads) {
            float *row = place + (j * n + i) * dw;
            if (dw > n_dims) store(row + dw - W, all(0));
            copy_row(row, row_at(x, s, h + j, first, i), n_dims);
        }
    return (Rows){place - (h * n + first) * dw, 0, n * dw, dw};
}

static void taken_back(Rows x, const Sample *s, int64_t h, int64_t heads, int64_t first, int64_t n, int64_t n_dims,
                       const float *place) {
    if (in_place(x, n_dims)) return;
    EACH(i, n) EACH(j, heads) copy_row(row_at(x, s, h + j, first, i), place + (j * n + i) * whole(n_dims), n_dims);
}

/* A query's row of ids as int32. Returns whether one is no row of the table; all then stand for the first. */
static int read_ids(const Call *c, const Sample *s, int64_t i, int32_t *restrict ids) {
    int64_t at = s->b * c->ids_sample + i * c->ids_row;
    int bad = 0;
    switch (c->ids_bytes) {
    case 1: EACH(j, s->m) ids[j] = ((const uint8_t *)c->ids)[at + j]; break;
    case 2: EACH(j, s->m) ids[j] = ((const int16_t *)c->ids)[at + j]; break;
    default: memcpy(ids, (const int32_t *)c->ids + at, 4 * s->m);
    }
    EACH(j, s->m) bad |= (uint32_t)ids[j] >= (uint32_t)c->n_rows;
    memset(ids + (bad ? 0 : s->m), 0, 4 * (s->mw - (bad ? 0 : s->m)));
    return bad;
}

/* A tile's rows of ids, which all heads share: read once where a sample is a single tile. */
static int read_tile(const Call *c, Room *room, const Sample *s, int64_t at, int64_t n) {
    int bad = 0;
    if (c->kind != TABLE || (room->ids_b == s->b && room->ids_at == at)) return 0;
    EACH(i, n) bad |= read_ids(c, s, at + i, room->ids + i * s->mw);
    room->ids_b = s->b, room->ids_at = at;
    return bad;
}

/* What is added to a query's scores, -inf for keys that aren't real. ids are its row of a table's. */
static const float *bias_row(const Call *c, const Room *room, const Sample *s, int64_t h, int64_t i,
                             const int32_t *restrict ids) {
    if (c->kind == NO_BIAS) return room->hidden;
    float *restrict sum = room->bias;
    const float *restrict hidden = room->hidden;
    if (c->kind == DENSE) {
        const float *restrict bias = row_at(c->bias, s, h, 0, i);
        EACH(j, s->m) sum[j] = hidden[j] + bias[j];
    } else {
        const float *restrict table = c->bias.data + h * c->bias.head;
        for (int64_t j = 0; j < s->mw; j += W) {
            vec y;
            UNROLL EACH(i, W) y[i] = table[ids[j + i]];
            store(sum + j, y + load(hidden + j));
        }
    }
    return sum;
}

/* Scores become e^(score - maximum), and stats what that takes. A row without keys is 0 and so is its inverse sum. */
static void soften(float *p, const float *bias, int64_t mw, float scale, float *stats) {
    vec top = all(-INFINITY), sum = all(0);
    for (int64_t j = 0; j < mw; j += W) {
        vec x = load(p + j) * scale + load(bias + j);
        store(p + j, x);
        UNROLL EACH(i, W) top[i] = larger(x[i], top[i]);
    }
    float most = largest(top);
    if (most == -INFINITY) most = 0;
    for (int64_t j = 0; j < mw; j += W) {
        vec x = exponential(load(p + j) - most);
        store(p + j, x);
        sum += x;
    }
    float whole_sum = total(sum);
    stats[0] = most;
    stats[1] = whole_sum == 0 ? 0 : 1 / whole_sum;
}

/* Scores become probabilities as `soften` left them, and in ds their gradients become those of the scores. */
static void soften_back(float *p, float *ds, const float *bias, int64_t mw, float scale, const float *stats) {
    vec sum = all(0);
    for (int64_t j = 0; j < mw; j += W) {
        vec x = exponential(load(p + j) * scale + load(bias + j) - stats[0]) * stats[1];
        store(p + j, x);
        sum += x * load(ds + j);
    }
    float mean = total(sum);
    for (int64_t j = 0; j < mw; j += W) store(ds + j, load(p + j) * (load(ds + j) - mean));
}

static void hand_to_bias(const Call *c, const Room *room, const Sample *s, int64_t part, int64_t h, int64_t i,
                         const float *restrict ds, const int32_t *restrict ids) {
    if (c->kind == TABLE) {
        float *bins = room->bins;
        int64_t j = 0;
        for (; j + LANES <= s->m; j += LANES)
            UNROLL EACH(l, LANES) bins[l * c->n_rows + ids[j + l]] += ds[j + l];
        for (; j < s->m; j++) bins[ids[j]] += ds[j];
        return;
    }
    float *restrict d_bias = row_at(c->d_bias, s, h, 0, i) + part * c->d_part;
    if (c->add)
        EACH(j, s->m) d_bias[j] += ds[j];
    else
        memcpy(d_bias, ds, 4 * s->m);
}

/* Forward and backward: rows here are whole vectors, side by side --------------------------------------------------- */

static int forward(const Call *c, Room *room, const Sample *s, int64_t g) {
    int64_t n_dims = c->n_dims, dw = whole(n_dims), mw = s->mw, shared = c->n_heads / c->n_groups;
    int bad = 0;
    const float *v = row_at(c->v, s, g, s->first_kv, 0);
    turn(row_at(c->k, s, g, s->first_kv, 0), dw, s->m, n_dims, room->k_turned);
    for (int64_t h = g * shared; h < (g + 1) * shared; h++)
        for (int64_t at = 0, n; at < s->n; at += n) {
            n = s->n - at < room->tile ? s->n - at : room->tile;
            float *out = row_at(c->out, s, h, s->first_q, at);
            bad |= read_tile(c, room, s, at, n);
            product(n, mw, n_dims, row_at(c->q, s, h, s->first_q, at), dw, room->k_turned, mw, room->p, mw);
            EACH(i, n) {
                const float *bias = bias_row(c, room, s, h, at + i, room->ids + i * mw);
                soften(room->p + i * mw, bias, mw, c->scale, row_at(c->stats, s, h, s->first_q, at + i));
            }
            product(n, dw, s->m, room->p, mw, v, dw, out, dw);
            EACH(i, n) scale(out + i * dw, row_at(c->stats, s, h, s->first_q, at + i)[1], dw);
        }
    return bad;
}

static int backward(const Call *c, Room *room, const Sample *s, int64_t part, int64_t g) {
    int64_t n_dims = c->n_dims, dw = whole(n_dims), mw = s->mw, shared = c->n_heads / c->n_groups;
    int bad = 0, table = c->kind == TABLE && c->d_bias.data;
    float *dk = row_at(c->dk, s, g, s->first_kv, 0), *dv = row_at(c->dv, s, g, s->first_kv, 0);
    const float *k = row_at(c->k, s, g, s->first_kv, 0);
    turn(k, dw, s->m, n_dims, room->k_turned);
    turn(row_at(c->v, s, g, s->first_kv, 0), dw, s->m, n_dims, room->v_turned);
    for (int64_t h = g * shared; h < (g + 1) * shared; h++) {
        if (table) memset(room->bins, 0, 4 * LANES * c->n_rows);
        for (int64_t at = 0, n; at == 0 || at < s->n; at += n) { /* once without queries too: dk and dv are then 0 */
            n = s->n - at < room->tile ? s->n - at : room->tile;
            const float *q = row_at(c->q, s, h, s->first_q, at), *d_out = row_at(c->d_out, s, h, s->first_q, at);
            float *dq = row_at(c->dq, s, h, s->first_q, at);
            int more = at > 0 || h > g * shared;
            bad |= read_tile(c, room, s, at, n);
            product(n, mw, n_dims, q, dw, room->k_turned, mw, room->p, mw);
            product(n, mw, n_dims, d_out, dw, room->v_turned, mw, room->ds, mw);
            EACH(i, n) {
                float *ds = room->ds + i * mw;
                const int32_t *ids = room->ids + i * mw;
                const float *bias = bias_row(c, room, s, h, at + i, ids);
                soften_back(room->p + i * mw, ds, bias, mw, c->scale, row_at(c->stats, s, h, s->first_q, at + i));
                if (c->d_bias.data) hand_to_bias(c, room, s, part, h, at + i, ds, ids);
            }
            product_turned(s->m, dw, n, room->p, mw, d_out, dw, dv, dw, more);
            product_turned(s->m, dw, n, room->ds, mw, q, dw, dk, dw, more);
            product(n, dw, s->m, room->ds, mw, k, dw, dq, dw);
            EACH(i, n) scale(dq + i * dw, c->scale, dw);
            if (!n) break;
        }
        if (table) {
            float *sums = c->d_bias.data + part * c->d_part + h * c->d_bias.head;
            EACH(l, LANES) EACH(r, c->n_rows) sums[r] += room->bins[l * c->n_rows + r];
        }
    }
    EACH(j, s->m) scale(dk + j * dw, c->scale, dw);
    return bad;
}

/* Some key heads from `g` on, and the query heads that share them. */
static int some_heads(const Call *c, Room *room, const Sample *s, int64_t part, int64_t g, int back) {
    int64_t shared = c->n_heads / c->n_groups, groups = c->n_groups - g < room->groups ? c->n_groups - g : room->groups;
    int64_t h = g * shared, heads = groups * shared, first_q = s->first_q, first_kv = s->first_kv, d = c->n_dims;
    int bad = 0;
    Call near = *c;
    near.q = brought(c->q, s, h, heads, first_q, s->n, d, room->q, 1);
    near.k = brought(c->k, s, g, groups, first_kv, s->m, d, room->k, 1);
    near.v = brought(c->v, s, g, groups, first_kv, s->m, d, room->v, 1);
    if (!back) {
        near.out = brought(c->out, s, h, heads, first_q, s->n, d, room->mixed, 0);
        EACH(i, groups) bad |= forward(&near, room, s, g + i);
        taken_back(c->out, s, h, heads, first_q, s->n, d, room->mixed);
        return bad;
    }
    near.d_out = brought(c->d_out, s, h, heads, first_q, s->n, d, room->d_out, 1);
    near.dq = brought(c->dq, s, h, heads, first_q, s->n, d, room->mixed, 0);
    near.dk = brought(c->dk, s, g, groups, first_kv, s->m, d, room->dk, 0);
    near.dv = brought(c->dv, s, g, groups, first_kv, s->m, d, room->dv, 0);
    EACH(i, groups) bad |= backward(&near, room, s, part, g + i);
    taken_back(c->dq, s, h, heads, first_q, s->n, d, room->mixed);
    taken_back(c->dk, s, g, groups, first_kv, s->m, d, room->dk);
    taken_back(c->dv, s, g, groups, first_kv, s->m, d, room->dv);
    return bad;
}

/* All of a thread's room in one piece, which is returned; NULL if there is no memory. */
static void *allocate(const Call *c, Room *room) {
    int64_t mw = whole(c->n_kv), dw = whole(c->n_dims), shared = c->n_heads / c->n_groups, at = 0;
    int64_t tile = TILE / mw / 12 * 12, groups = TOGETHER / (mw > c->n_q ? mw : c->n_q) / dw / shared;
    room->tile = tile < 12 ? 12 : tile > 96 ? 96 : tile; /* blocks of 4 and 6 rows both fit into 12 */
    room->groups = groups < 1 ? 1 : groups > c->n_groups ? c->n_groups : groups;
    int64_t queries = room->groups * shared * c->n_q * dw, keys = room->groups * c->n_kv * dw;
    struct { float **place; int64_t size; } parts[] = {
        {&room->k_turned, mw * c->n_dims}, {&room->v_turned, mw * c->n_dims}, {&room->p, room->tile * mw},
        {&room->ds, room->tile * mw}, {&room->q, queries}, {&room->d_out, queries}, {&room->mixed, queries},
        {&room->k, keys}, {&room->v, keys}, {&room->dk, keys}, {&room->dv, keys}, {&room->hidden, mw},
        {&room->bias, mw}, {&room->bins, LANES * c->n_rows},
        {(float **)&room->ids, c->kind == TABLE ? room->tile * mw : 0}};
    int64_t count = sizeof parts / sizeof *parts, size = 0;
    EACH(i, count) size += (parts[i].size + 31) / 16 * 16;
    float *memory = aligned_alloc(64, 4 * ((size + 15) / 16 * 16));
    if (memory)
        EACH(i, count) {
            *parts[i].place = memory + at;
            at += (parts[i].size + 31) / 16 * 16;
        }
    return memory;
}

/* Asks for pages of 2 MiB in memory that nothing has touched: the first touch of a small page costs more than what is
   computed for it. */
void isoform_large_pages(char *memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    uintptr_t page = 1 << 21, start = ((uintptr_t)memory + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)memory + bytes) / page * page;
    if (end > start) madvise((void *)start, end - start, MADV_HUGEPAGE); /* may be refused */
#else
    (void)memory, (void)bytes;
#endif
}

/* Parts `first` to `last` of the samples. Returns 0, 1 where an id is no row of the table, 2 without memory. */
int isoform_attention(const Call *c, int64_t first, int64_t last, int64_t back) {
    Room room;
    int bad = 0;
    void *memory = allocate(c, &room);
    room.ids_b = -1;
    if (!memory) return 2;
    for (int64_t part = first; part < last; part++)
        for (int64_t b = part * c->n_batch / c->n_parts; b < (part + 1) * c->n_batch / c->n_parts; b++) {
            Sample s = {b, 0, 0, c->n_q, c->n_kv, 0};
            if (c->ends_q) {
                s.first_q = c->ends_q[b], s.n = c->ends_q[b + 1] - s.first_q;
                s.first_kv = c->ends_kv[b], s.m = c->ends_kv[b + 1] - s.first_kv;
            }
            s.mw = whole(s.m);
            EACH(j, s.mw) {
                int seen = j < s.m && (!c->valid || c->valid[b * c->n_kv + j]);
                room.hidden[j] = seen ? 0 : -INFINITY;
                room.bias[j] = -INFINITY;
            }
            for (int64_t g = 0; g < c->n_groups; g += room.groups) bad |= some_heads(c, &room, &s, part, g, back);
        }
    free(memory);
    return bad;
}
