/* SPDX-License-Identifier: MIT
 *
 * rope.c - inverse frequencies of rotary position embeddings (Su et al., RoFormer, 2021; equation 15) and
 * their stretched forms: linear (position interpolation, Chen et al., 2023), dynamic (NTK-aware, with the
 * base growing with the sequence), yarn (Peng et al., YaRN, 2023), llama3 (Llama 3.1's smoothed cut by
 * wavelength) and longrope (Ding et al., LongRoPE, 2024: a divisor for each pair, from one list up to the
 * original length and from another beyond it).
 *
 * Rounding follows Transformers 5.17 on PyTorch: tensors are f32 and every step on them is rounded to f32,
 * Python numbers are f64 and enter a step as f32, and number / tensor is the tensor's reciprocal times the
 * number. Powers are computed in f64 and rounded once; PyTorch's own f32 power is the neighbouring f32 in
 * about 1 of 100 cases.
 */
#include "ir/rope.h"

#include <math.h>

#define WHERE "rope scaling"

/* NULL and a missing key are the same; false after a diagnostic when the value is no number. */
static bool number_of(qc_diag *diag, const qc_attr *scaling, const char *key, bool required, double *value)
{
    const qc_attr *attr = scaling ? qc_attr_find(scaling, key) : NULL;

    if (!attr) {
        if (required)
            qc_error(diag, WHERE, "type %s needs '%s'", qc_attr_as_text(qc_attr_find(scaling, "type")), key);
        return !required;
    }
    if (qc_attr_get_kind(attr) != QC_ATTR_INT && qc_attr_get_kind(attr) != QC_ATTR_FLOAT) {
        qc_error(diag, WHERE, "'%s' must be a number", key);
        return false;
    }
    *value = qc_attr_as_float(attr);
    if (!isfinite(*value)) {
        qc_error(diag, WHERE, "'%s' must be finite", key);
        return false;
    }
    return true;
}

static bool positive_of(qc_diag *diag, const qc_attr *scaling, const char *key, double *value)
{
    if (!number_of(diag, scaling, key, true, value))
        return false;
    if (*value <= 0)
        qc_error(diag, WHERE, "'%s' must be positive, not %g", key, *value);
    return *value > 0;
}

/* base^(2 i / dims) */
static float power(double base, int64_t i, int64_t dims)
{
    float exponent = (float)(2 * i) / (float)dims;
    return (float)pow((double)(float)base, (double)exponent);
}

static qc_status dynamic_base(
    qc_diag *diag, const qc_attr *scaling, int64_t dims, int64_t sequence_length, double *theta)
{
    double factor, limit;

    if (!positive_of(diag, scaling, "factor", &factor) ||
        !positive_of(diag, scaling, "max_position_embeddings", &limit))
        return QC_ERROR;
    if (dims <= 2)
        return qc_error(diag, WHERE, "type dynamic needs more than 2 dimensions");
    double exponent = (double)dims / (double)(dims - 2);
    if ((double)sequence_length <= limit) {
        *theta = *theta * pow(factor * limit / limit - (factor - 1), exponent);
        return QC_OK;
    }
    float stretch = (float)factor * (float)sequence_length / (float)limit - (float)(factor - 1);
    if (!(stretch > 0))
        return qc_error(diag, WHERE, "factor %g makes the base of a sequence of %lld negative", factor,
            (long long)sequence_length);
    *theta = (double)((float)pow((double)stretch, (double)(float)exponent) * (float)*theta);
    return QC_OK;
}

static qc_status llama3(qc_diag *diag, const qc_attr *scaling, int64_t half, float *inv_freq)
{
    double factor, low, high, context;

    if (!positive_of(diag, scaling, "factor", &factor) ||
        !positive_of(diag, scaling, "low_freq_factor", &low) ||
        !positive_of(diag, scaling, "high_freq_factor", &high) ||
        !positive_of(diag, scaling, "original_max_position_embeddings", &context))
        return QC_ERROR;
    float longest = (float)(context / low), shortest = (float)(context / high);
    for (int64_t i = 0; i < half; i++) {
        float f = inv_freq[i], wavelength = 1.0f / f * (float)(2 * M_PI);
        if (wavelength > longest) {
            inv_freq[i] = f / (float)factor;
        } else if (!(wavelength < shortest)) {
            if (high == low) /* Llama 4 Scout: there is no ramp, and nothing lies on the cut */
                return qc_error(diag, WHERE, "a wavelength is the cut of low_freq_factor = high_freq_factor");
            float smooth = (1.0f / wavelength * (float)context - (float)low) / (float)(high - low);
            inv_freq[i] = (1.0f - smooth) * f / (float)factor + smooth * f;
        }
    }
    return QC_OK;
}

/* The dimension that turns `rotations` times within `context` positions. */
static double correction_dim(double rotations, double dims, double theta, double context)
{
    return dims * log(context / (rotations * 2 * M_PI)) / (2 * log(theta));
}

static double magnitude(double scale, double mscale)
{
    return scale <= 1 ? 1.0 : 0.1 * mscale * log(scale) + 1.0;
}

static qc_status yarn(qc_diag *diag, const qc_attr *scaling, double theta, int64_t dims, float *inv_freq,
    float *attention_factor)
{
    double context, limit, factor = 0, attention = 0, mscale = 0, mscale_all = 0, fast = 0, slow = 0;

    if (!positive_of(diag, scaling, "original_max_position_embeddings", &context) ||
        !number_of(diag, scaling, "factor", false, &factor) ||
        !number_of(diag, scaling, "attention_factor", false, &attention) ||
        !number_of(diag, scaling, "mscale", false, &mscale) ||
        !number_of(diag, scaling, "mscale_all_dim", false, &mscale_all) ||
        !number_of(diag, scaling, "beta_fast", false, &fast) ||
        !number_of(diag, scaling, "beta_slow", false, &slow))
        return QC_ERROR;
    if (!qc_attr_find(scaling, "factor")) {
        if (!positive_of(diag, scaling, "max_position_embeddings", &limit))
            return QC_ERROR;
        factor = limit / context;
    }
    fast = fast == 0 ? 32 : fast;
    slow = slow == 0 ? 1 : slow;
    if (factor <= 0 || fast < 0 || slow < 0 || theta == 1)
        return qc_error(diag, WHERE,
            "factor %g, beta_fast %g, beta_slow %g, theta %g do not make a range of dimensions", factor, fast,
            slow, theta);
    if (!qc_attr_find(scaling, "attention_factor"))
        attention = mscale != 0 && mscale_all != 0 ? magnitude(factor, mscale) / magnitude(factor, mscale_all)
                                                   : magnitude(factor, 1);
    double low = correction_dim(fast, (double)dims, theta, context);
    double high = correction_dim(slow, (double)dims, theta, context);
    const qc_attr *truncate = qc_attr_find(scaling, "truncate");
    if (!truncate || qc_attr_as_bool(truncate)) {
        low = floor(low);
        high = ceil(high);
    }
    low = low > 0 ? low : 0;
    high = high < (double)(dims - 1) ? high : (double)(dims - 1);
    high += low == high ? 0.001 : 0;
    for (int64_t i = 0; i < dims / 2; i++) {
        float turn = power(theta, i, dims);
        float ramp = ((float)i - (float)low) / (float)(high - low);
        ramp = ramp < 0.0f ? 0.0f : ramp > 1.0f ? 1.0f : ramp;
        float keep = 1.0f - ramp;
        inv_freq[i] = 1.0f / ((float)factor * turn) * (1.0f - keep) + 1.0f / turn * keep;
    }
    *attention_factor = (float)attention;
    return QC_OK;
}

/* List `key` of the scaling, one positive number for each pair, dividing the frequencies. */
static qc_status divide_by_list(
    qc_diag *diag, const qc_attr *scaling, const char *key, double theta, int64_t dims, float *inv_freq)
{
    const qc_attr *list = qc_attr_find(scaling, key);
    if (!list || qc_attr_get_kind(list) != QC_ATTR_LIST || (int64_t)qc_attr_count(list) != dims / 2)
        return qc_error(
            diag, WHERE, "type longrope needs '%s', a list of %lld numbers", key, (long long)(dims / 2));
    for (int64_t i = 0; i < dims / 2; i++) {
        const qc_attr *item = qc_attr_item(list, (size_t)i);
        const qc_attr_kind kind = qc_attr_get_kind(item);
        const double divisor = kind == QC_ATTR_INT || kind == QC_ATTR_FLOAT ? qc_attr_as_float(item) : 0;
        if (!(divisor > 0) || !isfinite(divisor))
            return qc_error(diag, WHERE, "'%s' must hold positive numbers", key);
        inv_freq[i] = 1.0f / ((float)divisor * power(theta, i, dims));
    }
    return QC_OK;
}

static qc_status longrope(qc_diag *diag, const qc_attr *scaling, double theta, int64_t dims,
    int64_t sequence_length, float *inv_freq, float *attention_factor)
{
    double context, attention;

    if (!positive_of(diag, scaling, "original_max_position_embeddings", &context) ||
        !positive_of(diag, scaling, "attention_factor", &attention))
        return QC_ERROR;
    *attention_factor = (float)attention;
    return divide_by_list(diag, scaling, (double)sequence_length > context ? "long_factor" : "short_factor",
        theta, dims, inv_freq);
}

bool qc_rope_depends_on_length(const qc_attr *scaling)
{
    const char *type = scaling ? qc_attr_as_text(qc_attr_find(scaling, "type")) : "";
    return strcmp(type, "dynamic") == 0 || strcmp(type, "longrope") == 0;
}

qc_status qc_rope_frequencies(qc_diag *diag, const qc_attr *scaling, double theta, int64_t dims,
    int64_t sequence_length, float *inv_freq, float *attention_factor)
{
    const char *type = scaling ? qc_attr_as_text(qc_attr_find(scaling, "type")) : "default";
    double factor = 1;

    if (dims < 2 || dims % 2 != 0)
        return qc_error(diag, "rope", "%lld dimensions do not split in two halves", (long long)dims);
    if (!(theta > 0) || !isfinite(theta))
        return qc_error(diag, "rope", "theta must be positive, not %g", theta);
    if (strcmp(type, "default") != 0 && strcmp(type, "linear") != 0 && strcmp(type, "dynamic") != 0 &&
        strcmp(type, "llama3") != 0 && strcmp(type, "yarn") != 0 && strcmp(type, "longrope") != 0) {
        qc_error(diag, WHERE, "type '%s' is not supported", type);
        qc_note(diag, "supported are default, linear, dynamic, llama3, yarn and longrope");
        return QC_ERROR;
    }
    *attention_factor = 1.0f;
    if (strcmp(type, "yarn") == 0)
        return yarn(diag, scaling, theta, dims, inv_freq, attention_factor);
    if (strcmp(type, "longrope") == 0)
        return longrope(diag, scaling, theta, dims, sequence_length, inv_freq, attention_factor);
    if (strcmp(type, "dynamic") == 0 && dynamic_base(diag, scaling, dims, sequence_length, &theta) != QC_OK)
        return QC_ERROR;
    if (strcmp(type, "linear") == 0 && !positive_of(diag, scaling, "factor", &factor))
        return QC_ERROR;
    for (int64_t i = 0; i < dims / 2; i++) {
        inv_freq[i] = 1.0f / power(theta, i, dims);
        if (factor != 1)
            inv_freq[i] = inv_freq[i] / (float)factor;
    }
    return strcmp(type, "llama3") == 0 ? llama3(diag, scaling, dims / 2, inv_freq) : QC_OK;
}
