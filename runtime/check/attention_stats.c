/* SPDX-License-Identifier: MIT
 *
 * attention_stats.c - see attention_stats.h: reading, and the rules.
 */
#include "runtime/check/attention_stats.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/stats.h"

static const char *const part_names[] = {"q", "k", "v"};

typedef struct reader {
    qc_diag *diag;
    qc_arena *arena;
    const char *path;
    qc_stats stats;
    qc_map modules; /* path -> qc_attention_layer * */
    size_t sequences;
} reader;

/* ---- reading ------------------------------------------------------------------------------------------- */

/* "M.q" or "M.q@R3", the first perhaps "M.q@centered": the module, the part's number and whether it is rotated; false for
 * other taps. */
static bool parse_tap(qc_arena *arena, const char *tap, const char **module, size_t *part, bool *rotated)
{
    size_t length = strlen(tap);
    *rotated = qc_ends_with(tap, "@R3");
    length -= *rotated ? strlen("@R3") : 0;
    const size_t centered = strlen("@centered");
    if (length > centered && memcmp(tap + length - centered, "@centered", centered) == 0)
        length -= centered;
    if (length < 1 || (length > 1 && tap[length - 2] != '.'))
        return false;
    for (*part = 0; *part < QC_ATTENTION_PARTS; ++*part)
        if (tap[length - 1] == part_names[*part][0])
            break;
    *module = length > 1 ? qc_arena_strndup(arena, tap, length - 2) : "";
    return *part < QC_ATTENTION_PARTS;
}

static double absolute(float min, float max)
{
    return fmax(fabs((double)min), fabs((double)max));
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static qc_status take_record(reader *r, const qc_stats_record *range, qc_attention_ranges *out)
{
    const qc_stats_record *channels = qc_stats_find(&r->stats, range->tap, QC_STATS_CHANNELS);
    if (!channels)
        return qc_error(r->diag, r->path,
            "%s has ranges of heads and none of channels: it was not observed of heads, or by an older "
            "version; calibrate "
            "again",
            range->tap);
    if (range->heads == 0 || range->sequences == 0 || channels->columns == 0 ||
        channels->columns % range->heads)
        return qc_error(r->diag, r->path, "%s has %zu heads and %zu channels, which do not go together",
            range->tap, range->heads, channels->columns);
    if (r->sequences && range->sequences != r->sequences)
        return qc_error(r->diag, r->path, "%s is of %zu sequences, other taps of %zu", range->tap,
            range->sequences, r->sequences);
    r->sequences = range->sequences;
    size_t heads = range->heads, columns = channels->columns / heads;
    *out = (qc_attention_ranges){.heads = heads, .columns = columns};
    double **of_heads[] = {&out->amax, &out->median, &out->rms, &out->outlier};
    for (size_t i = 0; i < sizeof of_heads / sizeof *of_heads; i++)
        *of_heads[i] = QC_NEW_ARRAY(r->arena, double, heads);
    double *amax = QC_NEW_ARRAY(r->arena, double, columns);
    for (size_t h = 0; h < heads; h++) {
        double largest = 0;
        for (size_t s = 0; s < range->sequences; s++)
            out->amax[h] = fmax(out->amax[h], absolute(range->min[s * heads + h], range->max[s * heads + h]));
        for (size_t c = 0; c < columns; c++) {
            amax[c] = absolute(channels->min[h * columns + c], channels->max[h * columns + c]);
            largest = fmax(largest, amax[c]);
            out->rms[h] += amax[c] * amax[c] / (double)columns;
        }
        out->rms[h] = sqrt(out->rms[h]);
        out->median[h] = median(amax, columns);
        out->outlier[h] = out->median[h] > 0 ? largest / out->median[h] : largest > 0 ? INFINITY : 1;
    }
    return QC_OK;
}

/* Paths by their text, runs of digits by their value. */
static int compare_paths(const char *a, const char *b)
{
    while (*a && *b) {
        size_t m = strspn(a, "0123456789"), n = strspn(b, "0123456789");
        if (m && n) {
            for (; m > 1 && *a == '0'; m--)
                a++;
            for (; n > 1 && *b == '0'; n--)
                b++;
            int order = m != n ? (m > n) - (m < n) : strncmp(a, b, m);
            if (order)
                return order;
            a += m;
            b += n;
        } else if (*a != *b) {
            break;
        } else {
            a++;
            b++;
        }
    }
    return (unsigned char)*a - (unsigned char)*b;
}

static int compare_layers(const void *a, const void *b)
{
    return compare_paths(((const qc_attention_layer *)a)->module, ((const qc_attention_layer *)b)->module);
}

static qc_status take_taps(reader *r)
{
    for (size_t i = 0; i < r->stats.records.count; i++) {
        const qc_stats_record *record = r->stats.records.entries[i].value;
        const char *module;
        size_t part;
        bool rotated;
        if (record->kind != QC_STATS_MINMAX || !parse_tap(r->arena, record->tap, &module, &part, &rotated))
            continue;
        qc_attention_layer *layer = qc_map_get(&r->modules, module);
        if (!layer) {
            layer = QC_NEW(r->arena, qc_attention_layer);
            layer->module = module;
            qc_map_set(&r->modules, module, layer);
        }
        if (take_record(r, record, rotated ? &layer->rotated[part] : &layer->plain[part]) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

/* Does every layer have the same parts, and those before R3 that it has behind it? */
static qc_status check_layers(const reader *r, const qc_attention_stats *s)
{
    for (size_t i = 0; i < s->count; i++)
        for (size_t p = 0; p < QC_ATTENTION_PARTS; p++) {
            const qc_attention_ranges *plain = &s->layers[i].plain[p], *rotated = &s->layers[i].rotated[p];
            if (rotated->heads && !plain->heads)
                return qc_error(r->diag, r->path,
                    "%s.%s was observed under R3 alone; --collect=amax@R3 observes it without a rotation and "
                    "under it",
                    s->layers[i].module, part_names[p]);
            if (rotated->heads && (rotated->heads != plain->heads || rotated->columns != plain->columns))
                return qc_error(
                    r->diag, r->path, "%s.%s has other heads under R3", s->layers[i].module, part_names[p]);
        }
    return QC_OK;
}

qc_status qc_attention_stats_read(qc_diag *diag, qc_arena *arena, const char *path, qc_attention_stats *stats)
{
    reader r = {.diag = diag, .arena = arena, .path = path};
    qc_stats_init(&r.stats, arena);
    qc_map_init(&r.modules, arena);
    *stats = (qc_attention_stats){.path = path};
    if (qc_stats_load(diag, &r.stats, path) != QC_OK || take_taps(&r) != QC_OK)
        return QC_ERROR;
    qc_expert_usage_take(arena, &r.stats, &stats->experts);
    if (r.modules.count == 0 && stats->experts.count)
        return QC_OK;
    if (r.modules.count == 0) {
        qc_error(diag, path, "holds no statistics of q, k or v of attention, and of no experts");
        qc_note(diag,
            "qc-opt --pass=quant-fp8-attn MODEL --calib=DATA --collect=amax@R3 --save-stats=FILE makes some");
        return QC_ERROR;
    }
    stats->count = r.modules.count;
    stats->sequences = r.sequences;
    stats->layers = QC_NEW_ARRAY(arena, qc_attention_layer, stats->count);
    for (size_t i = 0; i < stats->count; i++)
        stats->layers[i] = *(const qc_attention_layer *)r.modules.entries[i].value;
    qsort(stats->layers, stats->count, sizeof *stats->layers, compare_layers);
    if (check_layers(&r, stats) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < stats->count; i++)
        stats->rotated |= stats->layers[i].rotated[0].heads || stats->layers[i].rotated[1].heads;
    for (size_t t = 0; t < QC_ADVICE_TYPES; t++)
        stats->advice[t] = qc_attention_stats_advise(arena, stats, 0, stats->count, (qc_advice_type)t);
    return QC_OK;
}

/* ---- rules --------------------------------------------------------------------------------------------- */

double qc_attention_spread(const qc_attention_ranges *ranges)
{
    double low = INFINITY, high = 0;
    for (size_t h = 0; h < ranges->heads; h++) {
        low = fmin(low, ranges->amax[h]);
        high = fmax(high, ranges->amax[h]);
    }
    return low > 0 ? high / low : high > 0 ? INFINITY : 1;
}

/* r / 41.57 > 0.0941 sqrt(1 + (r^2 - 1) / d), solved for r. */
double qc_attention_nvfp4_ratio(size_t columns)
{
    const double step = 1 / (144.0 * 12), ordinary = 0.0941 * 0.0941, d = (double)columns;
    double gain = step - ordinary / d;
    return gain > 0 ? sqrt(ordinary * (1 - 1 / d) / gain) : INFINITY;
}

/* The largest of something over heads, and where. */
typedef struct worst {
    double value;
    const char *module, *part;
    size_t head;
} worst;

static void consider(worst *w, double value, const qc_attention_layer *layer, size_t part, size_t head)
{
    if (w->module && !(value > w->value))
        return;
    *w = (worst){value, layer->module, part_names[part], head};
}

static double largest_amax(const qc_attention_ranges *r)
{
    double amax = 0;
    for (size_t h = 0; h < r->heads; h++)
        amax = fmax(amax, r->amax[h]);
    return amax;
}

/* The tensor's amax over the median channel of a head. */
static worst worst_ratio(const qc_attention_stats *s, size_t first, size_t count)
{
    worst w = {0};
    for (size_t i = first; i < first + count; i++)
        for (size_t p = 0; p < QC_ATTENTION_PARTS; p++) {
            const qc_attention_ranges *r = &s->layers[i].plain[p];
            for (size_t h = 0; h < r->heads; h++)
                if (r->amax[h] > 0) /* a head of zeros loses nothing */
                    consider(&w, largest_amax(r) / r->median[h], &s->layers[i], p, h);
        }
    return w;
}

/* Squared errors of INT8 relative to the heads' mean squares, averaged over heads, under a scale a tensor, head and channel.
 * `rotated`: q and k under R3. */
typedef struct int8_errors {
    double tensor, head, channel;
} int8_errors;

static int8_errors estimate_int8(const qc_attention_stats *s, size_t first, size_t count, bool rotated)
{
    const double unit = 16.0 / (127.0 * 127.0 * 12.0); /* of (amax / rms of the channels' amax)^2 */
    int8_errors e = {0, 0, 0};
    size_t heads = 0;
    for (size_t i = first; i < first + count; i++)
        for (size_t p = 0; p < QC_ATTENTION_PARTS; p++) {
            const qc_attention_layer *layer = &s->layers[i];
            const qc_attention_ranges *r =
                rotated && layer->rotated[p].heads ? &layer->rotated[p] : &layer->plain[p];
            double amax = largest_amax(r);
            for (size_t h = 0; h < r->heads; h++) {
                if (!(r->rms[h] > 0))
                    continue;
                e.tensor += unit * amax * amax / (r->rms[h] * r->rms[h]);
                e.head += unit * r->amax[h] * r->amax[h] / (r->rms[h] * r->rms[h]);
                e.channel += unit;
                heads++;
            }
        }
    double share = heads ? 1 / (double)heads : 0;
    return (int8_errors){e.tensor * share, e.head * share, e.channel * share};
}

/* By how much R3 lowers the squares of the amax of q and k. */
static double rotation_gain(const qc_attention_stats *s, size_t first, size_t count)
{
    double before = 0, after = 0;
    for (size_t i = first; i < first + count; i++)
        for (size_t p = 0; p < QC_ATTENTION_PARTS; p++) {
            const qc_attention_ranges *r = &s->layers[i].rotated[p];
            for (size_t h = 0; h < r->heads; h++) {
                before += s->layers[i].plain[p].amax[h] * s->layers[i].plain[p].amax[h];
                after += r->amax[h] * r->amax[h];
            }
        }
    return after > 0 ? before / after : 1;
}

static qc_attention_advice make(qc_arena *arena, qc_advice_type type, const char *granularity, bool rotate,
    const worst *w, double threshold)
{
    static const char *const passes[] = {"quant-fp8-attn", "quant-int8-attn", "quant-nvfp4-attn"};
    /* Searched scales have less squared error, at the same size. */
    const char *options =
        type == QC_ADVICE_NVFP4 ? "{search=mse}" : qc_arena_printf(arena, "{granularity=%s}", granularity);
    return (qc_attention_advice){.type = type,
        .possible = true,
        .rotate = rotate,
        .granularity = granularity,
        .pass = qc_arena_printf(arena, "%s%s%s", rotate ? "fold-r3," : "", passes[type], options),
        .value = w->value,
        .threshold = threshold,
        .module = w->module,
        .part = w->part,
        .head = w->head};
}

static qc_attention_advice advise_fp8(
    qc_arena *arena, const qc_attention_stats *s, size_t first, size_t count)
{
    worst w = worst_ratio(s, first, count);
    bool head = w.value > QC_FP8_RATIO;
    qc_attention_advice a = make(arena, QC_ADVICE_FP8, head ? "head" : "tensor", false, &w, QC_FP8_RATIO);
    a.rule =
        head ? "beside the tensor's amax the ordinary values of a head fall below E4M3's normal numbers"
             : "E4M3's error is relative, and no head is so small beside the tensor's amax that its ordinary "
               "values fall below the normal numbers";
    return a;
}

static qc_attention_advice advise_int8(
    qc_arena *arena, const qc_attention_stats *s, size_t first, size_t count)
{
    double gain = rotation_gain(s, first, count);
    bool rotate = gain >= QC_INT8_GAIN;
    int8_errors e = estimate_int8(s, first, count, rotate);
    double by_head = e.head > 0 ? e.tensor / e.head : 1, by_channel = e.channel > 0 ? e.head / e.channel : 1;
    bool channel = by_channel >= QC_INT8_CHANNEL_GAIN, head = by_head >= QC_INT8_GAIN;
    worst w = {.value = channel ? by_channel : by_head};
    qc_attention_advice a = make(arena, QC_ADVICE_INT8,
        channel ? "channel"
        : head  ? "head"
                : "tensor",
        rotate, &w, channel ? QC_INT8_CHANNEL_GAIN : QC_INT8_GAIN);
    const char *rotation =
        rotate ? qc_arena_printf(arena, "R3 divides the squared error of q and k by %.3g; with it ", gain)
               : "";
    a.rule = qc_arena_printf(arena,
        "%san estimated relative error of %.2g %% under a scale a tensor, %.2g %% a head, %.2g %% a channel "
        "(FP8: 2.7 %%)",
        rotation, 100 * sqrt(e.tensor), 100 * sqrt(e.head), 100 * sqrt(e.channel));
    return a;
}

static qc_attention_advice advise_nvfp4(
    qc_arena *arena, const qc_attention_stats *s, size_t first, size_t count)
{
    worst w = {0};
    size_t columns = SIZE_MAX;
    for (size_t i = first; i < first + count; i++)
        for (size_t p = 0; p < QC_ATTENTION_PARTS; p++) {
            const qc_attention_ranges *r = &s->layers[i].plain[p];
            if (r->columns % 16)
                return (qc_attention_advice){.type = QC_ADVICE_NVFP4,
                    .granularity = "group",
                    .module = s->layers[i].module,
                    .part = part_names[p],
                    .rule =
                        qc_arena_printf(arena, "groups of 16 do not fit a head of %zu channels", r->columns)};
            columns = r->heads && r->columns < columns ? r->columns : columns;
            for (size_t h = 0; p < 2 && h < r->heads; h++) /* R3 is of q and k */
                if (r->amax[h] > 0)
                    consider(&w, r->outlier[h], &s->layers[i], p, h);
        }
    double threshold = qc_attention_nvfp4_ratio(columns);
    bool rotate = w.value > threshold;
    qc_attention_advice a = make(arena, QC_ADVICE_NVFP4, "group", rotate, &w, threshold);
    a.rule = rotate ? "the channels beside the worst outlier err more than all would under R3; the mean "
                      "error stays about "
                      "the same, so measure both"
                    : "no outlier makes the channels beside it err more than all would under R3";
    return a;
}

qc_attention_advice qc_attention_stats_advise(
    qc_arena *arena, const qc_attention_stats *stats, size_t first, size_t count, qc_advice_type type)
{
    return type == QC_ADVICE_FP8    ? advise_fp8(arena, stats, first, count)
           : type == QC_ADVICE_INT8 ? advise_int8(arena, stats, first, count)
                                    : advise_nvfp4(arena, stats, first, count);
}
